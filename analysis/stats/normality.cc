#include "analysis/stats/normality.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "analysis/stats/distributions.h"
#include "analysis/stats/wide_number.h"

namespace loupe::analysis::stats {
namespace {

constexpr NormalityTest kUndefined{std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};

// c[0] + c[1] x + …
template <size_t N>
double Polynomial(const std::array<double, N>& c, double x) {
  double value = 0;
  for (size_t i = N; i-- > 0;) value = value * x + c[i];
  return value;
}

// Royston's approximate weights for the upper half of the order statistics, largest first.
std::vector<double> RoystonWeights(size_t n) {
  const auto size = static_cast<double>(n);
  std::vector<double> m(n / 2);  // approximate expected normal order statistics (Blom), largest first
  double sum_sq = 0;
  for (size_t i = 0; i < m.size(); ++i) {
    m[i] = -NormalQuantile((static_cast<double>(i) + 1 - 0.375) / (size + 0.25));
    sum_sq += 2 * m[i] * m[i];
  }
  if (n == 3) return {std::sqrt(0.5)};
  const double norm = std::sqrt(sum_sq);
  const double u = 1 / std::sqrt(size);
  std::vector<double> a(n / 2);
  a[0] = m[0] / norm + Polynomial(std::array{0.0, 0.221157, -0.147981, -2.071190, 4.434685, -2.706056}, u);
  size_t first = 1;
  double phi = 0;
  if (n > 5) {
    a[1] = m[1] / norm + Polynomial(std::array{0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633}, u);
    first = 2;
    phi = (sum_sq - 2 * m[0] * m[0] - 2 * m[1] * m[1]) / (1 - 2 * a[0] * a[0] - 2 * a[1] * a[1]);
  } else {
    phi = (sum_sq - 2 * m[0] * m[0]) / (1 - 2 * a[0] * a[0]);
  }
  for (size_t i = first; i < a.size(); ++i) a[i] = m[i] / std::sqrt(phi);
  return a;
}

// Over a power of two near the largest: W and A² do not depend on the unit, and no square overflows or vanishes.
void ScaleDown(std::vector<double>& sorted) {
  const PowerOfTwo unit(std::max(std::abs(sorted.front()), std::abs(sorted.back())));
  for (double& value : sorted) value = unit.Down(value);
}

// log Φ(z), by the tail's expansion where Φ itself is 0.
double LogNormalCdf(double z) {
  return z > -37 ? std::log(NormalCdf(z)) : -0.5 * z * z - std::log(-z * std::sqrt(2 * std::numbers::pi));
}

double RoystonP(double w, size_t n) {
  const auto size = static_cast<double>(n);
  if (n == 3) {
    constexpr double kSmallest = 0.75;  // least possible W of three values
    return std::clamp(6 / std::numbers::pi * (std::asin(std::sqrt(w)) - std::asin(std::sqrt(kSmallest))), 0.0, 1.0);
  }
  double y = std::log(1 - w);
  double mean = 0;
  double sd = 1;
  if (n <= 11) {
    const double gamma = Polynomial(std::array{-2.273, 0.459}, size);
    if (y >= gamma) return 0.0;
    y = -std::log(gamma - y);
    mean = Polynomial(std::array{0.5440, -0.39978, 0.025054, -6.714e-4}, size);
    sd = std::exp(Polynomial(std::array{1.3822, -0.77857, 0.062767, -0.0020322}, size));
  } else {
    const double x = std::log(size);
    mean = Polynomial(std::array{-1.5861, -0.31082, -0.083751, 0.0038915}, x);
    sd = std::exp(Polynomial(std::array{-0.4803, -0.082676, 0.0030302}, x));
  }
  return NormalUpperTail((y - mean) / sd);
}

}  // namespace

NormalityTest ShapiroWilk(std::vector<double> values) {
  const size_t n = values.size();
  if (n < 3 || n > 5000) return kUndefined;
  std::sort(values.begin(), values.end());
  if (!(values.back() > values.front()) || !std::isfinite(values.front()) || !std::isfinite(values.back()))
    return kUndefined;
  ScaleDown(values);
  double mean = 0;
  for (const double value : values) mean += value / static_cast<double>(n);
  double sum_sq = 0;
  for (const double value : values) sum_sq += (value - mean) * (value - mean);
  const std::vector<double> a = RoystonWeights(n);
  double weighted = 0;
  for (size_t i = 0; i < a.size(); ++i) weighted += a[i] * (values[n - 1 - i] - values[i]);
  const double w = std::min(1.0, weighted * weighted / sum_sq);
  return {w, w >= 1.0 ? 1.0 : RoystonP(w, n)};
}

NormalityTest AndersonDarling(std::vector<double> values) {
  const size_t n = values.size();
  if (n < 8) return kUndefined;
  std::sort(values.begin(), values.end());
  if (!(values.back() > values.front()) || !std::isfinite(values.front()) || !std::isfinite(values.back()))
    return kUndefined;
  ScaleDown(values);
  const auto size = static_cast<double>(n);
  double mean = 0;
  for (const double value : values) mean += value / size;
  double sum_sq = 0;
  for (const double value : values) sum_sq += (value - mean) * (value - mean);
  const double sd = std::sqrt(sum_sq / (size - 1));
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    const double low = LogNormalCdf((values[i] - mean) / sd);
    const double high = LogNormalCdf(-(values[n - 1 - i] - mean) / sd);
    sum += (2 * static_cast<double>(i) + 1) * (low + high);
  }
  const double a2 = -size - sum / size;
  const double a = a2 * (1 + 0.75 / size + 2.25 / (size * size));
  double p = 0;
  if (a >= 0.6) {
    p = a > 153.467 ? 0.0 : std::exp(1.2937 - 5.709 * a + 0.0186 * a * a);  // beyond, the parabola would turn back
  } else if (a >= 0.34) {
    p = std::exp(0.9177 - 4.279 * a - 1.38 * a * a);
  } else if (a >= 0.2) {
    p = 1 - std::exp(-8.318 + 42.796 * a - 59.938 * a * a);
  } else {
    p = 1 - std::exp(-13.436 + 101.14 * a - 223.73 * a * a);
  }
  return {a2, std::clamp(p, 0.0, 1.0)};
}

}  // namespace loupe::analysis::stats
