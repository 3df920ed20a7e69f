#include "analysis/stats/quadrature.h"

#include <algorithm>
#include <cmath>

#include "boost/math/distributions/chi_squared.hpp"
#include "boost/math/quadrature/gauss.hpp"

namespace loupe::analysis::stats {

double GaussLegendre(const std::function<double(double)>& g, double low, double high, int panels) {
  const double width = (high - low) / panels;
  double sum = 0;
  for (int i = 0; i < panels; ++i) {
    sum += boost::math::quadrature::gauss<double, 20>::integrate(g, low + i * width, low + (i + 1) * width);
  }
  return sum;
}

double ExpectationOverScale(double df, const std::function<double(double)>& g) {
  if (std::isinf(df) || df > 1e8) return g(1.0);
  const boost::math::chi_squared_distribution<double> chi_squared(df);
  // Far down on the left: g may be a tail probability that only small scales make likely.
  constexpr double kLowerTail = 1e-60, kUpperTail = 1e-18;
  const double low = std::sqrt(boost::math::quantile(chi_squared, kLowerTail) / df);
  const double high = std::sqrt(boost::math::quantile(complement(chi_squared, kUpperTail)) / df);
  // Density of S: 2 (df/2)^(df/2)/Γ(df/2) · s^(df−1) · exp(−df s²/2).
  const double log_constant = std::log(2.0) + 0.5 * df * std::log(0.5 * df) - std::lgamma(0.5 * df);
  const auto integrand = [&](double s) {
    return std::exp(log_constant + (df - 1) * std::log(s) - 0.5 * df * s * s) * g(s);
  };
  // Geometric panels: g changes with q·s, over a range of s that shrinks as q grows. Where S hardly varies, linear
  // ones.
  constexpr double kRatio = 1.6;
  if (high < low * std::pow(kRatio, 4)) return GaussLegendre(integrand, low, high, 4);
  const double first = std::max(low, 2e-5 * high);
  double sum = first > low ? GaussLegendre(integrand, low, first, 1) : 0.0;
  const int panels = static_cast<int>(std::ceil(std::log(high / first) / std::log(kRatio)));
  const double ratio = std::pow(high / first, 1.0 / panels);
  double begin = first;
  for (int i = 0; i < panels; ++i, begin *= ratio) sum += GaussLegendre(integrand, begin, begin * ratio, 1);
  return sum;
}

}  // namespace loupe::analysis::stats
