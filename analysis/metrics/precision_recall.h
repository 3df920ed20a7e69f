// Improved precision and recall of a generative model (Kynkäänniemi et al. 2019, arXiv 1904.06991).
//
// Each set's manifold is the union of balls around its rows, each reaching to the row's k-th nearest other row.
// precision = share of generated rows inside the reference's manifold (are they realistic?);
// recall = share of reference rows inside the generated one's (is everything covered?). Compare only at equal counts.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::analysis::metrics {

struct PrecisionRecall {
  double precision = 0;  // [0, 1]
  double recall = 0;     // [0, 1]
};

// InvalidArgument: k < 1, or a set with fewer than k + 1 rows. A row at exactly the radius is inside. Thread-safe.
absl::StatusOr<PrecisionRecall> ComputePrecisionRecall(const FeatureMatrix& generated, const FeatureMatrix& reference,
                                                       int64_t k = 3);

}  // namespace loupe::analysis::metrics
