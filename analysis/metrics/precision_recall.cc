#include "analysis/metrics/precision_recall.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "analysis/metrics/dense_algebra.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::metrics {
namespace {

constexpr int64_t kBlock = 1024;  // rows of the distance matrix held at a time

double DirectSquaredDistance(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

// Rows, and the squared lengths from which |a − b|² = |a|² + |b|² − 2a·b is formed.
struct Points {
  DenseMatrix rows;
  std::vector<double> sq_length;
};

Points MakePoints(const FeatureMatrix& features) {
  Points points{ToDense(features), {}};
  for (int64_t row = 0; row < points.rows.rows; ++row) {
    double sum = 0;
    for (int64_t col = 0; col < points.rows.cols; ++col) sum += points.rows.Row(row)[col] * points.rows.Row(row)[col];
    points.sq_length.push_back(sum);
  }
  return points;
}

// Squared distance of each row to its k-th nearest other row.
std::vector<double> SquaredRadii(const Points& points, int64_t k) {
  const int64_t n = points.rows.rows;
  std::vector<double> radii;
  std::vector<std::pair<double, int64_t>> near;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const DenseMatrix products = TimesTransposed(RowsOf(points.rows, begin, std::min(n, begin + kBlock)), points.rows);
    for (int64_t row = 0; row < products.rows; ++row) {
      near.clear();
      for (int64_t other = 0; other < n; ++other) {
        if (other == begin + row) continue;
        near.emplace_back(points.sq_length[static_cast<size_t>(other)] - 2 * products.Row(row)[other], other);
      }
      std::nth_element(near.begin(), near.begin() + (k - 1), near.end());
      radii.push_back(DirectSquaredDistance(
          points.rows.Row(begin + row), points.rows.Row(near[static_cast<size_t>(k - 1)].second), points.rows.cols));
    }
  }
  return radii;
}

// Share of `queries` that lie within the ball of some point.
double ShareInside(const Points& queries, const Points& centres, const std::vector<double>& radii) {
  const int64_t n = queries.rows.rows;
  int64_t inside = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const DenseMatrix products =
        TimesTransposed(RowsOf(queries.rows, begin, std::min(n, begin + kBlock)), centres.rows);
    for (int64_t row = 0; row < products.rows; ++row) {
      const double length = queries.sq_length[static_cast<size_t>(begin + row)];
      for (int64_t centre = 0; centre < products.cols; ++centre) {
        const size_t c = static_cast<size_t>(centre);
        const double distance = length + centres.sq_length[c] - 2 * products.Row(row)[centre];
        // The subtraction above loses digits; where that could decide, the distance is formed directly.
        const double doubt = 1e-11 * (length + centres.sq_length[c]);
        if (distance > radii[c] + doubt) continue;
        if (distance >= radii[c] - doubt &&
            DirectSquaredDistance(queries.rows.Row(begin + row), centres.rows.Row(centre), queries.rows.cols) >
                radii[c]) {
          continue;
        }
        ++inside;
        break;
      }
    }
  }
  return static_cast<double>(inside) / static_cast<double>(n);
}

}  // namespace

absl::StatusOr<PrecisionRecall> ComputePrecisionRecall(const FeatureMatrix& generated, const FeatureMatrix& reference,
                                                       int64_t k) {
  if (k < 1) return absl::InvalidArgumentError(fmt::format("precision and recall need k of at least 1, not {}", k));
  LOUPE_RETURN_IF_ERROR(CheckFeaturePair(generated, reference, k + 1));
  const Points generated_points = MakePoints(generated), reference_points = MakePoints(reference);
  PrecisionRecall result;
  result.precision = ShareInside(generated_points, reference_points, SquaredRadii(reference_points, k));
  result.recall = ShareInside(reference_points, generated_points, SquaredRadii(generated_points, k));
  return result;
}

}  // namespace loupe::analysis::metrics
