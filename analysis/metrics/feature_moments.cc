#include "analysis/metrics/feature_moments.h"

#include <algorithm>
#include <cmath>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::metrics {

FeatureMoments FeatureMoments::OfChecked(const FeatureMatrix& features) {
  FeatureMoments moments;
  moments.rows_ = features.rows;
  moments.sum_ = ColumnSums(features);
  moments.scatter_ = DenseMatrix(features.cols, features.cols);
  const std::vector<double> mean = moments.Mean();
  constexpr int64_t kRows = 1024;  // turned to double at a time, so that memory stays at the size of the covariance
  for (int64_t begin = 0; begin < features.rows; begin += kRows) {
    DenseMatrix block = ToDense(features, begin, std::min(features.rows, begin + kRows));
    Centre(block, mean);
    moments.sum_sq_ += SumOfSquares(block);
    AddGram(block, moments.scatter_);
  }
  return moments;
}

absl::StatusOr<FeatureMoments> FeatureMoments::Of(const FeatureMatrix& features) {
  LOUPE_RETURN_IF_ERROR(CheckFeatures(features, "gathered", 1));
  return OfChecked(features);
}

absl::Status FeatureMoments::Merge(const FeatureMoments& part) {
  if (part.cols() != cols()) {
    return absl::InvalidArgumentError(
        fmt::format("parts of a set have {} and {} columns: all must come from one network", cols(), part.cols()));
  }
  const double n = static_cast<double>(rows_), m = static_cast<double>(part.rows_);
  const std::vector<double> mean = Mean();
  DenseMatrix delta(1, cols());
  delta.values = part.Mean();
  Centre(delta, mean);
  for (double& value : delta.values) value *= std::sqrt(n * m / (n + m));
  for (size_t i = 0; i < scatter_.values.size(); ++i) scatter_.values[i] += part.scatter_.values[i];
  AddGram(delta, scatter_);
  sum_sq_ += part.sum_sq_ + SumOfSquares(delta);
  for (size_t i = 0; i < sum_.size(); ++i) sum_[i] += part.sum_[i];
  rows_ += part.rows_;
  return absl::OkStatus();
}

std::vector<double> FeatureMoments::Mean() const {
  std::vector<double> mean = sum_;
  for (double& value : mean) value /= static_cast<double>(rows_);
  return mean;
}

DenseMatrix FeatureMoments::Covariance() const {
  DenseMatrix covariance = scatter_;
  for (double& value : covariance.values) value /= static_cast<double>(rows_ - 1);
  return covariance;
}

}  // namespace loupe::analysis::metrics
