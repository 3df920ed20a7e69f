#include "analysis/stats/studentized_range.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/stats/distributions.h"
#include "analysis/stats/quadrature.h"
#include "boost/math/tools/toms748_solve.hpp"

namespace loupe::analysis {
namespace {

constexpr double kInverseRoot2Pi = 0.39894228040143267794;

// P(range of k standard normals ≤ w): k ∫ φ(z) [Φ(z) − Φ(z − w)]^(k−1) dz over the largest value z.
double RangeCdf(double w, int k) {
  if (w <= 0) return 0.0;
  const auto integrand = [&](double z) {
    // Φ(z) − Φ(z − w), from the side where the tails are small.
    const double between = z > 0.5 * w ? NormalUpperTail(z - w) - NormalUpperTail(z) : NormalCdf(z) - NormalCdf(z - w);
    return k * kInverseRoot2Pi * std::exp(-0.5 * z * z) * std::pow(std::max(between, 0.0), k - 1);
  };
  constexpr double kReach = 8.5;  // φ is below 1e-16 of its top beyond
  return std::min(1.0, GaussLegendre(integrand, -kReach, std::min(kReach, kReach + w), 8));
}

}  // namespace

double StudentizedRangeUpperTail(double q, int k, double df) {
  if (std::isnan(q) || k < 2 || !(df > 0)) return std::numeric_limits<double>::quiet_NaN();
  if (q <= 0) return 1.0;
  if (std::isinf(q)) return 0.0;
  return std::clamp(ExpectationOverScale(df, [&](double s) { return 1.0 - RangeCdf(q * s, k); }), 0.0, 1.0);
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
  std::uintmax_t iterations = 100;
  const auto [a, b] = boost::math::tools::toms748_solve(excess, low, high, boost::math::tools::eps_tolerance<double>(42),
                                                        iterations);
  return 0.5 * (a + b);
}

}  // namespace loupe::analysis
