#include "analysis/stats/distributions.h"

#include <cmath>

#include "analysis/stats/nan.h"
#include "boost/math/distributions/chi_squared.hpp"
#include "boost/math/distributions/fisher_f.hpp"
#include "boost/math/distributions/non_central_f.hpp"
#include "boost/math/distributions/normal.hpp"
#include "boost/math/distributions/students_t.hpp"

namespace loupe::analysis::stats {
namespace {

namespace policies = boost::math::policies;
using Quiet = policies::policy<
    policies::domain_error<policies::ignore_error>, policies::pole_error<policies::ignore_error>,
    policies::overflow_error<policies::ignore_error>, policies::underflow_error<policies::ignore_error>,
    policies::evaluation_error<policies::ignore_error>, policies::rounding_error<policies::ignore_error>,
    policies::indeterminate_result_error<policies::ignore_error>, policies::promote_double<false>>;
constexpr double kLargeNoncentrality = 1e8;

bool Positive(double a, double b) { return a > 0 && b > 0; }  // false for NaN as well

}  // namespace

double FUpperTail(double f, double df1, double df2) {
  if (!Positive(df1, df2) || std::isnan(f)) return kNaN;
  if (f <= 0) return 1.0;
  if (std::isinf(f)) return 0.0;
  return boost::math::cdf(complement(boost::math::fisher_f_distribution<double, Quiet>(df1, df2), f));
}

double FQuantile(double probability, double df1, double df2) {
  if (!Positive(df1, df2)) return kNaN;
  return boost::math::quantile(boost::math::fisher_f_distribution<double, Quiet>(df1, df2), probability);
}

double NoncentralFCdf(double f, double df1, double df2, double noncentrality) {
  if (!Positive(df1, df2) || std::isnan(f) || !(noncentrality >= 0)) return kNaN;
  if (f <= 0) return 0.0;
  if (noncentrality == 0) return boost::math::cdf(boost::math::fisher_f_distribution<double, Quiet>(df1, df2), f);
  if (noncentrality > kLargeNoncentrality) {
    // Patnaik (1949, Biometrika 36:202): χ'²(df1, λ) ≈ c·χ²(ν). The relative error vanishes as λ grows; Boost counts
    // Poisson terms in an int and throws.
    const double c = (df1 + 2 * noncentrality) / (df1 + noncentrality);
    const double nu = (df1 + noncentrality) / c;
    return boost::math::cdf(boost::math::fisher_f_distribution<double, Quiet>(nu, df2), f * df1 / (c * nu));
  }
  return boost::math::cdf(boost::math::non_central_f_distribution<double, Quiet>(df1, df2, noncentrality), f);
}

double TTwoSided(double t, double df) {
  if (!(df > 0) || std::isnan(t)) return kNaN;
  if (std::isinf(t)) return 0.0;
  return 2.0 * boost::math::cdf(complement(boost::math::students_t_distribution<double, Quiet>(df), std::abs(t)));
}

double TQuantile(double probability, double df) {
  if (!(df > 0)) return kNaN;
  return boost::math::quantile(boost::math::students_t_distribution<double, Quiet>(df), probability);
}

double ChiSquaredUpperTail(double x, double df) {
  if (!(df > 0) || std::isnan(x)) return kNaN;
  if (x <= 0) return 1.0;
  return boost::math::cdf(complement(boost::math::chi_squared_distribution<double, Quiet>(df), x));
}

double NormalCdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

double NormalUpperTail(double z) { return 0.5 * std::erfc(z / std::sqrt(2.0)); }

double NormalQuantile(double probability) {
  return boost::math::quantile(boost::math::normal_distribution<double, Quiet>(), probability);
}

}  // namespace loupe::analysis::stats
