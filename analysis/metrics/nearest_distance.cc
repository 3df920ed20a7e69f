#include "analysis/metrics/nearest_distance.h"

#include <algorithm>
#include <cmath>

#include "analysis/metrics/dense_algebra.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::metrics {
namespace {

constexpr int64_t kFewPictures = 30;
constexpr int64_t kCosineRows = 1024;  // rows whose cosines are held at a time

double Distance(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

// `others_only`: from and to are one set, and a row is not its own nearest.
std::vector<NearestRow> Nearest(const DenseMatrix& from, const DenseMatrix& to, bool others_only) {
  std::vector<NearestRow> nearest;
  for (int64_t begin = 0; begin < from.rows; begin += kCosineRows) {
    DenseMatrix cosines = TimesTransposed(RowsOf(from, begin, std::min(from.rows, begin + kCosineRows)), to);
    for (int64_t row = 0; row < cosines.rows; ++row) {
      double* values = cosines.Row(row);
      if (others_only) values[begin + row] = -2;  // less than any cosine
      const int64_t best = std::max_element(values, values + cosines.cols) - values;
      // Formed from the rows: 2 − 2 cos has half the digits where the two are nearly one.
      nearest.push_back({best, Distance(from.Row(begin + row), to.Row(best), to.cols)});
    }
  }
  return nearest;
}

struct MeanAndError {
  double mean = 0;
  double error = 0;
};

MeanAndError MeanOf(const std::vector<NearestRow>& rows) {
  const double n = static_cast<double>(rows.size());
  double sum = 0, sum_sq = 0;
  for (const NearestRow& row : rows) sum += row.distance;
  const double mean = sum / n;
  for (const NearestRow& row : rows) sum_sq += (row.distance - mean) * (row.distance - mean);
  return {mean, std::sqrt(sum_sq / (n - 1) / n)};
}

double ShareNearer(const std::vector<NearestRow>& generated, const std::vector<NearestRow>& expected) {
  std::vector<double> sorted;
  for (const NearestRow& row : expected) sorted.push_back(row.distance);
  std::sort(sorted.begin(), sorted.end());
  double pairs = 0;
  for (const NearestRow& row : generated) {
    const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), row.distance);
    pairs += static_cast<double>(sorted.end() - last) + 0.5 * static_cast<double>(last - first);
  }
  return pairs / (static_cast<double>(generated.size()) * static_cast<double>(expected.size()));
}

}  // namespace

absl::StatusOr<std::vector<NearestRow>> NearestRows(const FeatureMatrix& from, const FeatureMatrix& to) {
  LOUPE_RETURN_IF_ERROR(CheckFeaturePair(from, to, 1));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix u, UnitRows(from, "generated"));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix v, UnitRows(to, "reference"));
  return Nearest(u, v, false);
}

absl::StatusOr<std::vector<NearestRow>> NearestOtherRows(const FeatureMatrix& features) {
  LOUPE_RETURN_IF_ERROR(CheckFeatures(features, "reference", 2));
  LOUPE_ASSIGN_OR_RETURN(const DenseMatrix u, UnitRows(features, "reference"));
  return Nearest(u, u, true);
}

absl::StatusOr<NearestDistance> CompareNearest(const std::vector<NearestRow>& generated,
                                               const std::vector<NearestRow>& expected) {
  if (generated.empty() || expected.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "nearest-picture distances need pictures of either kind, but there are {} generated and {} that are "
        "no copies",
        generated.size(), expected.size()));
  }
  const MeanAndError of_generated = MeanOf(generated), of_expected = MeanOf(expected);
  if (of_expected.mean == 0) {
    return absl::InvalidArgumentError(
        "every picture that should be no copy has a twin among the training pictures, so there is no distance to expect: "
        "leave out doubles");
  }
  NearestDistance result;
  result.generated = of_generated.mean;
  result.expected = of_expected.mean;
  result.ratio = result.generated / result.expected;
  result.ratio_error = std::hypot(of_generated.error, result.ratio * of_expected.error) / result.expected;
  result.nearer = ShareNearer(generated, expected);
  const auto few = static_cast<int64_t>(std::min(generated.size(), expected.size()));
  if (few < kFewPictures) {
    result.warning = fmt::format(
        "Nearest-picture distances of {} generated and {} other pictures: with so few, single pictures move the ratio.",
        generated.size(), expected.size());
  }
  return result;
}

}  // namespace loupe::analysis::metrics
