#include "analysis/metrics/frechet_distance.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "analysis/metrics/dense_algebra.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::metrics {

// The Gaussian fitted to one set: mean, Tr Σ, and F with FᵀF = Σ.
struct FittedGaussian {
  int64_t rows = 0;
  std::vector<double> mean;
  DenseMatrix factor;
  double trace = 0;
};

namespace {

FittedGaussian Fit(const FeatureMoments& moments) {
  return {.rows = moments.rows(),
          .mean = moments.Mean(),
          .factor = FactorOfGram(moments.Covariance()),
          .trace = moments.Trace()};
}

FittedGaussian Fit(const FeatureMatrix& features) {
  if (features.rows > features.cols) return Fit(FeatureMoments::OfChecked(features));
  FittedGaussian fit;
  fit.rows = features.rows;
  fit.mean = ColumnSums(features);
  for (double& value : fit.mean) value /= static_cast<double>(features.rows);
  fit.factor = ToDense(features);
  Centre(fit.factor, fit.mean);
  for (double& value : fit.factor.values) value /= std::sqrt(static_cast<double>(features.rows - 1));
  fit.trace = SumOfSquares(fit.factor);
  return fit;
}

FrechetDistance Distance(const FittedGaussian& generated, const FittedGaussian& reference) {
  FrechetDistance distance;
  for (size_t i = 0; i < generated.mean.size(); ++i) {
    const double difference = generated.mean[i] - reference.mean[i];
    distance.mean_term += difference * difference;
  }
  // The trace term is a squared distance too (Bures): below zero only by rounding.
  distance.trace_term = std::max(0.0, generated.trace + reference.trace -
                                          2 * SumOfSingularValues(TimesTransposed(generated.factor, reference.factor)));
  distance.value = distance.mean_term + distance.trace_term;
  const int64_t dimensions = static_cast<int64_t>(generated.mean.size());
  if (std::min(generated.rows, reference.rows) <= dimensions) {
    distance.few_samples = true;
    distance.warning = fmt::format(
        "FID from {} generated and {} reference pictures in {} dimensions is biased upward: compare it only with "
        "values at "
        "the same counts, or look at KID.",
        generated.rows, reference.rows, dimensions);
  }
  return distance;
}

}  // namespace

absl::StatusOr<FrechetDistance> ComputeFrechetDistance(const FeatureMatrix& generated, const FeatureMatrix& reference) {
  LOUPE_RETURN_IF_ERROR(CheckFeaturePair(generated, reference, 2));
  return Distance(Fit(generated), Fit(reference));
}

absl::StatusOr<FrechetDistance> ComputeFrechetDistance(const FeatureMoments& generated,
                                                       const FeatureMoments& reference) {
  if (generated.cols() != reference.cols() || std::min(generated.rows(), reference.rows()) < 2) {
    return absl::InvalidArgumentError(fmt::format(
        "a Fréchet distance needs two sets of two rows at least from one network, but there are {} rows of {} columns "
        "and {} of {}",
        generated.rows(), generated.cols(), reference.rows(), reference.cols()));
  }
  return Distance(Fit(generated), Fit(reference));
}

struct FrechetReference::Impl {
  FittedGaussian fit;
};

FrechetReference::FrechetReference(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<FrechetReference> FrechetReference::Create(const FeatureMatrix& reference) {
  LOUPE_RETURN_IF_ERROR(CheckFeatures(reference, "reference", 2));
  return FrechetReference(std::make_shared<const Impl>(Impl{Fit(reference)}));
}

absl::StatusOr<FrechetDistance> FrechetReference::DistanceTo(const FeatureMatrix& generated) const {
  LOUPE_RETURN_IF_ERROR(CheckFeatures(generated, "generated", 2));
  if (static_cast<size_t>(generated.cols) != impl_->fit.mean.size()) {
    return absl::InvalidArgumentError(fmt::format(
        "the generated features have {} columns and the reference features {}: both must come from one network",
        generated.cols, impl_->fit.mean.size()));
  }
  return Distance(Fit(generated), impl_->fit);
}

}  // namespace loupe::analysis::metrics
