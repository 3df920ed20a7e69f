// CMMD: the maximum mean discrepancy of unit embeddings under a Gaussian kernel.
//
//   MMD²_V = mean_ij k(x_i,x_j) + mean_ij k(y_i,y_j) − 2 mean_ij k(x_i,y_j),   k(u,v) = exp(−|u − v|²/(2σ²)), σ = 10,
// times 1000, of rows scaled to length 1 (Jayasumana et al. 2023, arXiv 2401.09603 §4).
//
// The estimator is the biased V-statistic, pairs of a row with itself included, as in the published code and in
// clip-mmd: never below 0, and 0 for a set and itself. Two sets of n from one distribution are expected to give
// (2/n)·1000·E[1 − k(x,x')] and not 0, at most 20·(2/n) between opposite rows: compare at equal counts.
// No Gaussian is assumed and no covariance estimated, so it needs fewer pictures than a Fréchet distance.
#pragma once

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::analysis::metrics {

// InvalidArgument: a set without rows, unequal columns, a value that is not finite, a row of zeros (it has no
// direction). Thread-safe.
absl::StatusOr<double> ComputeCmmd(const FeatureMatrix& generated, const FeatureMatrix& reference);

}  // namespace loupe::analysis::metrics
