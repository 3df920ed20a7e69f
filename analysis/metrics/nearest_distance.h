// Are generated pictures copies of training pictures? Their distances to the nearest training picture, beside those of
// pictures that are known to be none.
//
// The distance is |u − v| of rows scaled to length 1, √(2 − 2 cos): 0 for a copy, √2 where nothing is alike. What it
// would be without copying depends on the data and the network, so it is measured: on real pictures that were held
// out, or, where there are none, on each training picture with itself left out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::analysis::metrics {

struct NearestRow {
  int64_t row = 0;  // of several equally near ones the first
  double distance = 0;
};

// For each row of `from` its nearest row of `to`. InvalidArgument as ComputeCmmd. Thread-safe, as all below.
absl::StatusOr<std::vector<NearestRow>> NearestRows(const FeatureMatrix& from, const FeatureMatrix& to);
// For each row its nearest other one; needs two.
absl::StatusOr<std::vector<NearestRow>> NearestOtherRows(const FeatureMatrix& features);

struct NearestDistance {
  double generated = 0;    // mean distance to the nearest training picture
  double expected = 0;     // the same of the pictures that are no copies
  double ratio = 0;        // of the two: near 1 without copying, towards 0 with copies
  double ratio_error = 0;  // its standard error, of both means (first order); NaN when either has one picture
  // How probably a generated picture lies nearer than one that is no copy (Mann and Whitney's U over the number of
  // pairs, ties half): .5 without copying, 1 when all are nearer. The statistic of Meehan et al. 2020, arXiv
  // 2004.05675, over one region.
  double nearer = 0;
  // A whole sentence when either has fewer than 30 pictures: then a single one moves the means.
  std::string warning;
};

// From the distances that NearestRows and NearestOtherRows gave. InvalidArgument: none on either side, or the expected
// distance is 0, as every picture that should be no copy has a twin among the training pictures.
absl::StatusOr<NearestDistance> CompareNearest(const std::vector<NearestRow>& generated,
                                               const std::vector<NearestRow>& expected);

}  // namespace loupe::analysis::metrics
