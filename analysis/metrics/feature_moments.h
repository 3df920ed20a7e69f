// Mean and covariance of features that come in parts, such as each rank's pictures of one set.
//
// What is kept is n, Σx and Σ(x − x̄)(x − x̄)ᵀ in float64. That is Σxxᵀ in another form, Σxxᵀ = Σ(x − x̄)(x − x̄)ᵀ + n·x̄x̄ᵀ,
// and the one that does not lose the covariance's digits where features lie far from 0. Two parts are merged exactly:
//   S = S_a + S_b + (n_a·n_b/n)·δδᵀ,   δ = x̄_b − x̄_a        (Chan, Golub and LeVeque 1979, equation 2.1b)
// However a set is split, the merged moments are those of the whole to 1e-12 of their size, and merging the same parts
// in the same order gives the same bits: let parts be merged in the order of their pictures.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "analysis/metrics/dense_algebra.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::analysis::metrics {

// Value type; const access is thread-safe.
class FeatureMoments {
 public:
  // InvalidArgument as CheckFeatures with one row.
  static absl::StatusOr<FeatureMoments> Of(const FeatureMatrix& features);
  // The same of features that were checked.
  static FeatureMoments OfChecked(const FeatureMatrix& features);

  // Adds another part of the same set. InvalidArgument when its features have another number of columns.
  absl::Status Merge(const FeatureMoments& part);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return static_cast<int64_t>(sum_.size()); }
  // Σx/n.
  std::vector<double> Mean() const;
  // Over n − 1, [cols, cols], its lower triangle as AddGram leaves it. Two rows at least.
  DenseMatrix Covariance() const;
  // Tr of the covariance.
  double Trace() const { return sum_sq_ / static_cast<double>(rows_ - 1); }

 private:
  int64_t rows_ = 0;
  std::vector<double> sum_;  // Σx
  DenseMatrix scatter_;      // Σ(x − x̄)(x − x̄)ᵀ, lower triangle
  double sum_sq_ = 0;        // its trace
};

}  // namespace loupe::analysis::metrics
