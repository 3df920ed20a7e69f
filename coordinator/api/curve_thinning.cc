#include "coordinator/api/curve_thinning.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace loupe::coordinator::api {

ThinCurve Thin(const std::vector<std::pair<int64_t, double>>& points, int64_t most) {
  ThinCurve curve;
  if (static_cast<int64_t>(points.size()) <= most) {
    for (const auto& [step, value] : points) {
      if (std::isnan(value)) continue;
      curve.steps.push_back(static_cast<double>(step));
      curve.means.push_back(value);
    }
    return curve;
  }
  const double first = static_cast<double>(points.front().first);
  const double length = (static_cast<double>(points.back().first) - first + 1) / static_cast<double>(most);
  size_t at = 0;
  for (int64_t stretch = 0; stretch < most; ++stretch) {
    const bool last = stretch + 1 == most;
    const double end = first + static_cast<double>(stretch + 1) * length;
    double low = std::numeric_limits<double>::infinity(), high = -low, sum = 0, count = 0;
    for (; at < points.size() && (last || static_cast<double>(points[at].first) < end); ++at) {
      const double value = points[at].second;
      if (std::isnan(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
      sum += value;
      ++count;
    }
    if (count == 0) continue;
    curve.steps.push_back(end - (length + 1) / 2);
    curve.means.push_back(sum / count);
    curve.lows.push_back(low);
    curve.highs.push_back(high);
  }
  return curve;
}

}  // namespace loupe::coordinator::api
