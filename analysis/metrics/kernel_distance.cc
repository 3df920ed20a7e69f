#include "analysis/metrics/kernel_distance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "analysis/metrics/dense_algebra.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::metrics {
namespace {

// A number in [0, bound) from the raw 64-bit stream: std::uniform_int_distribution differs between standard libraries.
int64_t Below(std::mt19937_64& generator, int64_t bound) {
  const uint64_t range = static_cast<uint64_t>(bound);
  const uint64_t limit = UINT64_MAX - UINT64_MAX % range;
  uint64_t draw = generator();
  while (draw >= limit) draw = generator();
  return static_cast<int64_t>(draw % range);
}

// `count` different indices below `order.size()`, by the first steps of a Fisher–Yates shuffle of `order`.
std::vector<int64_t> Draw(std::mt19937_64& generator, std::vector<int64_t>& order, int64_t count) {
  const int64_t n = static_cast<int64_t>(order.size());
  for (int64_t i = 0; i < count; ++i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i + Below(generator, n - i))]);
  }
  return {order.begin(), order.begin() + count};
}

DenseMatrix Pick(const DenseMatrix& from, const std::vector<int64_t>& rows) {
  DenseMatrix picked(static_cast<int64_t>(rows.size()), from.cols);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(from.Row(rows[i]), from.cols, picked.Row(static_cast<int64_t>(i)));
  }
  return picked;
}

double SumOfKernel(const DenseMatrix& a, const DenseMatrix& b, bool without_diagonal) {
  const DenseMatrix products = TimesTransposed(a, b);
  const double d = static_cast<double>(a.cols);
  double sum = 0;
  for (int64_t row = 0; row < products.rows; ++row) {
    const double* values = products.Row(row);
    double row_sum = 0;
    for (int64_t col = 0; col < products.cols; ++col) {
      const double base = values[col] / d + 1;
      row_sum += base * base * base;
    }
    if (without_diagonal) {
      const double base = values[row] / d + 1;
      row_sum -= base * base * base;
    }
    sum += row_sum;
  }
  return sum;
}

double UnbiasedMmdSquared(const DenseMatrix& x, const DenseMatrix& y) {
  const double m = static_cast<double>(x.rows), n = static_cast<double>(y.rows);
  return SumOfKernel(x, x, true) / (m * (m - 1)) + SumOfKernel(y, y, true) / (n * (n - 1)) -
         2 * SumOfKernel(x, y, false) / (m * n);
}

}  // namespace

absl::StatusOr<KernelDistance> ComputeKernelDistance(const FeatureMatrix& generated, const FeatureMatrix& reference,
                                                     const KernelDistanceOptions& options) {
  LOUPE_RETURN_IF_ERROR(CheckFeaturePair(generated, reference, 2));
  if (options.subsets < 1 || options.subset_size < 2) {
    return absl::InvalidArgumentError(fmt::format("KID needs at least 1 subset of at least 2 rows, not {} of {}",
                                                  options.subsets, options.subset_size));
  }
  const DenseMatrix x = ToDense(generated), y = ToDense(reference);
  KernelDistance distance;
  distance.subset_size = std::min({options.subset_size, x.rows, y.rows});
  const bool takes_all = distance.subset_size == x.rows && distance.subset_size == y.rows;
  distance.subsets = takes_all ? 1 : options.subsets;

  std::mt19937_64 generator(options.seed);
  std::vector<int64_t> order_x(static_cast<size_t>(x.rows)), order_y(static_cast<size_t>(y.rows));
  std::iota(order_x.begin(), order_x.end(), 0);
  std::iota(order_y.begin(), order_y.end(), 0);
  std::vector<double> values;
  for (int64_t subset = 0; subset < distance.subsets; ++subset) {
    if (takes_all) {
      values.push_back(UnbiasedMmdSquared(x, y));
      break;
    }
    const std::vector<int64_t> rows_x = Draw(generator, order_x, distance.subset_size);
    const std::vector<int64_t> rows_y = Draw(generator, order_y, distance.subset_size);
    values.push_back(UnbiasedMmdSquared(Pick(x, rows_x), Pick(y, rows_y)));
  }
  const double count = static_cast<double>(values.size());
  distance.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  // Over a power of two near the largest deviation: the same digits, and no square overflows.
  double largest = 0, sum_sq = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value - distance.mean));
  int exponent = 0;
  std::frexp(largest, &exponent);
  for (const double value : values) {
    const double deviation = std::ldexp(value - distance.mean, -exponent);
    sum_sq += deviation * deviation;
  }
  distance.sd = std::ldexp(std::sqrt(sum_sq / count), exponent);
  return distance;
}

}  // namespace loupe::analysis::metrics
