#include "analysis/metrics/embedding_mmd.h"

#include <algorithm>
#include <cmath>

#include "analysis/metrics/dense_algebra.h"
#include "common/status_macros.h"

namespace loupe::analysis::metrics {
namespace {

constexpr double kSigma = 10;
constexpr double kScale = 1000;
constexpr int64_t kKernelRows = 1024;  // rows whose kernel is held at a time

// Mean over all pairs of k − 1. The ones cancel in the discrepancy, where k itself, between 0.98 and 1, would lose
// digits.
double MeanOfKernelLessOne(const DenseMatrix& u, const DenseMatrix& v) {
  double sum = 0;
  for (int64_t begin = 0; begin < u.rows; begin += kKernelRows) {
    const DenseMatrix cosines = TimesTransposed(RowsOf(u, begin, std::min(u.rows, begin + kKernelRows)), v);
    // |u − v|² = 2 − 2 cos for unit rows; a cosine over 1 is rounding.
    for (const double cosine : cosines.values) sum += std::expm1(-std::max(0.0, 1 - cosine) / (kSigma * kSigma));
  }
  return sum / (static_cast<double>(u.rows) * static_cast<double>(v.rows));
}

}  // namespace

absl::StatusOr<double> ComputeCmmd(const FeatureMatrix& generated, const FeatureMatrix& reference) {
  LOUPE_RETURN_IF_ERROR(CheckFeaturePair(generated, reference, 1));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix x, UnitRows(generated, "generated"));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix y, UnitRows(reference, "reference"));
  const double discrepancy = MeanOfKernelLessOne(x, x) + MeanOfKernelLessOne(y, y) - 2 * MeanOfKernelLessOne(x, y);
  return kScale * std::max(0.0, discrepancy);  // a squared length: below 0 by rounding alone
}

}  // namespace loupe::analysis::metrics
