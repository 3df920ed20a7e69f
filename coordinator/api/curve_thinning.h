// A curve in few points, for a page that shows hundreds at once.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace loupe::coordinator::api {

// As loupe.v1.GetCurvesResponse.Curve: `lows` and `highs` are empty where nothing was thinned out.
struct ThinCurve {
  std::vector<double> steps, means, lows, highs;
};

// `points` are (step, value), ascending by step. With more than `most` (at least 1) the steps are cut into `most`
// stretches of equal length; stretches without points are left out. What is no number (NaN) is left out.
ThinCurve Thin(const std::vector<std::pair<int64_t, double>>& points, int64_t most);

}  // namespace loupe::coordinator::api
