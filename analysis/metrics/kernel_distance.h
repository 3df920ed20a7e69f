// Kernel Inception Distance: an unbiased estimate, so fit for few pictures (it may be slightly negative near 0).
//
//   MMD²_u = Σ_{i≠j} k(x_i,x_j)/(m(m−1)) + Σ_{i≠j} k(y_i,y_j)/(m(m−1)) − 2 Σ_ij k(x_i,y_j)/m²,   k(x,y) = (xᵀy/d + 1)³
// (Bińkowski et al. 2018, arXiv 1801.01401 §4), averaged over random subsets of m rows drawn without replacement.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::analysis::metrics {

struct KernelDistanceOptions {
  int64_t subsets = 100;
  // Rows per subset; cut to the smaller set's count, so that small sets work. If that takes all rows of both sets, one
  // subset is enough and sd is 0.
  int64_t subset_size = 1000;
  // Of the subsets alone: no other random stream is touched, and the same seed gives the same value on every machine.
  uint64_t seed = 2020;
};

struct KernelDistance {
  double mean = 0;
  double sd = 0;  // over the subsets, divided by their number (ddof 0), as usually reported
  int64_t subsets = 0;
  int64_t subset_size = 0;  // as used
};

// Needs two rows in each set (InvalidArgument otherwise; also for subsets < 1 or subset_size < 2). Thread-safe.
absl::StatusOr<KernelDistance> ComputeKernelDistance(const FeatureMatrix& generated, const FeatureMatrix& reference,
                                                     const KernelDistanceOptions& options = {});

}  // namespace loupe::analysis::metrics
