#include "analysis/metrics/cosine_similarity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "analysis/metrics/dense_algebra.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::metrics {
namespace {

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

std::vector<double> SumOfRows(const DenseMatrix& matrix) {
  std::vector<double> sum(static_cast<size_t>(matrix.cols), 0.0);
  for (int64_t row = 0; row < matrix.rows; ++row) {
    for (int64_t col = 0; col < matrix.cols; ++col) sum[static_cast<size_t>(col)] += matrix.Row(row)[col];
  }
  return sum;
}

}  // namespace

absl::StatusOr<double> MeanPairwiseCosine(const FeatureMatrix& generated, const FeatureMatrix& reference) {
  LOUPE_RETURN_IF_ERROR(CheckFeaturePair(generated, reference, 1));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix u, UnitRows(generated, "generated"));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix v, UnitRows(reference, "reference"));
  const std::vector<double> sum_u = SumOfRows(u), sum_v = SumOfRows(v);
  return Dot(sum_u.data(), sum_v.data(), u.cols) / (static_cast<double>(u.rows) * static_cast<double>(v.rows));
}

absl::StatusOr<double> MeanMatchedCosine(const FeatureMatrix& generated, const FeatureMatrix& reference) {
  LOUPE_RETURN_IF_ERROR(CheckFeaturePair(generated, reference, 1));
  if (generated.rows != reference.rows) {
    return absl::InvalidArgumentError(
        fmt::format("matched cosines need one reference row per generated row, but there are {} and {}", reference.rows,
                    generated.rows));
  }
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix u, UnitRows(generated, "generated"));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix v, UnitRows(reference, "reference"));
  return Dot(u.values.data(), v.values.data(), u.rows * u.cols) / static_cast<double>(u.rows);
}

absl::StatusOr<double> MeanCosineWithin(const FeatureMatrix& features) {
  LOUPE_RETURN_IF_ERROR(CheckFeatures(features, "generated", 2));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix u, UnitRows(features, "generated"));
  const std::vector<double> sum = SumOfRows(u);
  const double n = static_cast<double>(u.rows);
  // |Σu|² counts each row with itself once; those are n ones.
  return (Dot(sum.data(), sum.data(), u.cols) - n) / (n * (n - 1));
}

absl::StatusOr<double> MeanNearestCosine(const FeatureMatrix& generated, const FeatureMatrix& reference) {
  LOUPE_RETURN_IF_ERROR(CheckFeaturePair(generated, reference, 1));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix u, UnitRows(generated, "generated"));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix v, UnitRows(reference, "reference"));
  const DenseMatrix cosines = TimesTransposed(u, v);
  double sum = 0;
  for (int64_t row = 0; row < cosines.rows; ++row)
    sum += *std::max_element(cosines.Row(row), cosines.Row(row) + cosines.cols);
  return sum / static_cast<double>(cosines.rows);
}

}  // namespace loupe::analysis::metrics
