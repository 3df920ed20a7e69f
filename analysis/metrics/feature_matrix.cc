#include "analysis/metrics/feature_matrix.h"

#include <cmath>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::metrics {

absl::Status CheckFeatures(const FeatureMatrix& features, const char* what, int64_t least_rows) {
  if (features.rows < 0 || features.cols <= 0 ||
      features.values.size() != static_cast<size_t>(features.rows) * static_cast<size_t>(features.cols)) {
    return absl::InvalidArgumentError(fmt::format("the {} features claim {} rows × {} columns but hold {} numbers",
                                                  what, features.rows, features.cols, features.values.size()));
  }
  if (features.rows < least_rows) {
    return absl::InvalidArgumentError(
        fmt::format("the {} features have {} row(s), but this score needs at least {}: generate or give more pictures",
                    what, features.rows, least_rows));
  }
  for (size_t i = 0; i < features.values.size(); ++i) {
    if (!std::isfinite(features.values[i])) {
      return absl::InvalidArgumentError(
          fmt::format("the {} features hold {} in row {}: the network that made them diverged", what,
                      features.values[i], i / static_cast<size_t>(features.cols)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFeaturePair(const FeatureMatrix& generated, const FeatureMatrix& reference, int64_t least_rows) {
  LOUPE_RETURN_IF_ERROR(CheckFeatures(generated, "generated", least_rows));
  LOUPE_RETURN_IF_ERROR(CheckFeatures(reference, "reference", least_rows));
  if (generated.cols != reference.cols) {
    return absl::InvalidArgumentError(fmt::format(
        "the generated features have {} columns and the reference features {}: both must come from one network",
        generated.cols, reference.cols));
  }
  return absl::OkStatus();
}

}  // namespace loupe::analysis::metrics
