#include "analysis/stats/dunnett.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "analysis/stats/distributions.h"
#include "analysis/stats/nan.h"
#include "analysis/stats/quadrature.h"
#include "analysis/stats/root_finder.h"

namespace loupe::analysis::stats {
namespace {

constexpr double kInverseRoot2Pi = 0.39894228040143267794;

// Equal λ occur many times (equal cell sizes): one power instead of many factors. They are computed from covariances,
// so equal ones may differ by rounding: 1e-12 in λ moves no tail probability by more than about that.
std::map<double, int> Multiplicities(const std::vector<double>& lambda) {
  std::map<double, int> counts;
  for (const double value : lambda) ++counts[std::round(value * 1e12) * 1e-12];
  return counts;
}

// P(all T_i ≤ t), or P(all |T_i| ≤ t), given S = s: ∫ φ(z) Π_i P(T_i in range | Z_0 = z) dz with t·s as the bound.
double GivenScale(double bound, const std::map<double, int>& lambda, bool two_sided) {
  const auto integrand = [&](double z) {
    double product = kInverseRoot2Pi * std::exp(-0.5 * z * z);
    for (const auto& [value, count] : lambda) {
      const double root = std::sqrt(1.0 - value * value);
      const double upper = (bound + value * z) / root;
      const double p = two_sided ? NormalCdf(upper) - NormalCdf((-bound + value * z) / root) : NormalCdf(upper);
      product *= std::pow(std::max(p, 0.0), count);
    }
    return product;
  };
  return std::min(1.0, GaussLegendre(integrand, -8.5, 8.5, 8));
}

double UpperTail(double t, const std::vector<double>& lambda, double df, bool two_sided) {
  if (std::isnan(t) || lambda.empty() || !(df > 0)) return kNaN;
  if (std::isinf(t)) return t > 0 ? 0.0 : 1.0;
  if (two_sided && t <= 0) return 1.0;
  const std::map<double, int> counts = Multiplicities(lambda);
  const double tail = ExpectationOverScale(df, [&](double s) { return 1.0 - GivenScale(t * s, counts, two_sided); });
  return std::clamp(tail, 0.0, 1.0);
}

double Quantile(double alpha, const std::vector<double>& lambda, double df, bool two_sided) {
  if (!(alpha > 0 && alpha < 1) || lambda.empty() || !(df > 0)) return kNaN;
  const auto excess = [&](double t) { return alpha - UpperTail(t, lambda, df, two_sided); };
  double low = two_sided ? 0.0 : -4.0;
  double high = 4.0;
  while (excess(high) < 0 && high < 1e9) {
    low = high;
    high *= 2.0;
  }
  while (excess(low) > 0 && low > -1e9) low *= 2.0;
  return FindRoot(excess, low, high, 36);
}

}  // namespace

double DunnettTwoSidedUpperTail(double t, const std::vector<double>& lambda, double df) {
  return UpperTail(t, lambda, df, true);
}
double DunnettOneSidedUpperTail(double t, const std::vector<double>& lambda, double df) {
  return UpperTail(t, lambda, df, false);
}
double DunnettTwoSidedQuantile(double alpha, const std::vector<double>& lambda, double df) {
  return Quantile(alpha, lambda, df, true);
}
double DunnettOneSidedQuantile(double alpha, const std::vector<double>& lambda, double df) {
  return Quantile(alpha, lambda, df, false);
}

}  // namespace loupe::analysis::stats
