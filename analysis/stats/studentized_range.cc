#include "analysis/stats/studentized_range.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/stats/distributions.h"
#include "analysis/stats/quadrature.h"
#include "analysis/stats/root_finder.h"

namespace loupe::analysis::stats {
namespace {

constexpr double kInverseRoot2Pi = 0.39894228040143267794;

// P(range of k standard normals > w): k ∫ φ(z) {Φ(z)^(k−1) − [Φ(z) − Φ(z − w)]^(k−1)} dz over the largest value z. The
// tail itself and not one less the rest, so that it keeps its digits however small it is.
double RangeUpperTail(double w, int k) {
  if (w <= 0) return 1.0;
  constexpr double kEnd = 56;  // beyond it no double holds the tail, exp(−w²/4) and less
  if (w > kEnd) return 0.0;
  const auto integrand = [&](double z) {
    const double below = NormalCdf(z), out = NormalCdf(z - w);
    if (!(below > 0)) return 0.0;
    const double share =
        -std::expm1((k - 1) * std::log1p(-std::min(1.0, out / below)));  // of Φ^(k−1) that falls out of the range
    return k * kInverseRoot2Pi * std::exp(-0.5 * z * z) * std::pow(below, k - 1) * share;
  };
  constexpr double kReach = 8.5;  // φ is below 1e-16 of its top beyond; of far tails the top is at w/2
  const int panels = static_cast<int>(std::ceil(8 + 8 * (0.5 * w) / (2 * kReach)));
  return std::min(1.0, GaussLegendre(integrand, -kReach, kReach + 0.5 * w, panels));
}

}  // namespace

double StudentizedRangeUpperTail(double q, int k, double df) {
  if (std::isnan(q) || k < 2 || !(df > 0)) return std::numeric_limits<double>::quiet_NaN();
  if (q <= 0) return 1.0;
  if (std::isinf(q)) return 0.0;
  return std::clamp(ExpectationOverScale(df, [&](double s) { return RangeUpperTail(q * s, k); }), 0.0, 1.0);
}

double StudentizedRangeQuantile(double probability, int k, double df) {
  if (!(probability > 0 && probability < 1) || k < 2 || !(df > 0)) return std::numeric_limits<double>::quiet_NaN();
  const auto excess = [&](double q) { return (1.0 - probability) - StudentizedRangeUpperTail(q, k, df); };
  double low = 0.0;
  double high = 4.0;
  while (excess(high) < 0 && high < 1e9) {
    low = high;
    high *= 2.0;
  }
  return FindRoot(excess, low, high, 42);
}

}  // namespace loupe::analysis::stats
