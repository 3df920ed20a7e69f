// Fréchet distance between Gaussians fitted to two sets of features: FID on Inception features, CLIP-FID on CLIP's.
//
//   FID = |μ1 − μ2|² + Tr Σ1 + Tr Σ2 − 2 Tr (Σ1 Σ2)^½          (Heusel et al. 2017, arXiv 1706.08500, eq. 6)
// with sample covariances divided by n − 1, as numpy.cov and the pytorch-fid program do.
//
// No matrix square root is formed. Write Σi = FiᵀFi; then Tr (Σ1Σ2)^½ is the sum of the singular values of F1F2ᵀ. With
// fewer samples than dimensions Fi is the centred sample itself over √(n − 1), which is exact and small; otherwise it
// is the Cholesky factor of Σi (pivoted where Σi is singular). The result is finite for any finite input.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"
#include "analysis/metrics/feature_moments.h"

namespace loupe::analysis::metrics {

struct FrechetDistance {
  double value = 0;       // ≥ 0
  double mean_term = 0;   // |μ1 − μ2|²
  double trace_term = 0;  // Tr Σ1 + Tr Σ2 − 2 Tr (Σ1Σ2)^½
  // Set when a sample has no more rows than columns. The number is what the formula says, but it is biased upward and
  // can only be compared with others at the same counts. `warning` is a whole sentence then.
  bool few_samples = false;
  std::string warning;
};

// Needs two rows in each set and equal column counts (InvalidArgument otherwise). Thread-safe.
absl::StatusOr<FrechetDistance> ComputeFrechetDistance(const FeatureMatrix& generated, const FeatureMatrix& reference);

// The same from moments that were merged from parts. With no more rows than columns the covariance is singular and its
// factor good to √ε of its size alone: where all features are at hand give them as they are.
absl::StatusOr<FrechetDistance> ComputeFrechetDistance(const FeatureMoments& generated,
                                                       const FeatureMoments& reference);

// One side of the distance, kept: a reference set's costs are paid once for a whole sweep. Immutable; copies
// share it. Thread-safe.
class FrechetReference {
 public:
  // InvalidArgument as CheckFeatures with two rows.
  static absl::StatusOr<FrechetReference> Create(const FeatureMatrix& reference);
  absl::StatusOr<FrechetDistance> DistanceTo(const FeatureMatrix& generated) const;

 private:
  struct Impl;
  explicit FrechetReference(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace loupe::analysis::metrics
