#include "analysis/stats/effect_size.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/stats/distributions.h"
#include "analysis/stats/root_finder.h"

namespace loupe::analysis::stats {
namespace {

// The λ ≥ 0 at which P(F' ≤ f; λ) falls to `probability`; 0 if it is below it already at λ = 0.
double NoncentralityAt(double f, double df1, double df2, double probability) {
  const auto excess = [&](double lambda) { return NoncentralFCdf(f, df1, df2, lambda) - probability; };
  if (!(excess(0.0) > 0)) return 0.0;
  double low = 0.0;
  double high = std::max(4.0, 2.0 * f * df1);
  for (int i = 0; i < 60 && excess(high) > 0; ++i) {
    low = high;
    high *= 2.0;
  }
  return FindRoot(excess, low, high, 48);
}

}  // namespace

NoncentralityInterval NoncentralFInterval(double f, double df1, double df2, double confidence) {
  const double tail = 0.5 * (1.0 - confidence);
  return {NoncentralityAt(f, df1, df2, 1.0 - tail), NoncentralityAt(f, df1, df2, tail)};
}

EffectSize ComputeEffectSize(const FTest& test, double confidence) {
  EffectSize effect;
  if (!(test.df > 0 && test.residual_df > 0 && test.residual_sum_sq > 0 && test.total_sum_sq > 0)) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {nan, nan, nan, nan, nan, nan, nan, nan, nan};
  }
  const double mse = test.residual_sum_sq / test.residual_df;
  const double unbiased = test.sum_sq - test.df * mse;
  const double with_error = test.sum_sq + test.residual_sum_sq;
  effect.eta_sq = test.sum_sq / test.total_sum_sq;
  effect.partial_eta_sq = test.sum_sq / with_error;
  effect.omega_sq = unbiased / (test.total_sum_sq + mse);
  effect.partial_omega_sq = unbiased / (test.sum_sq + (test.n - test.df) * mse);
  effect.epsilon_sq = unbiased / test.total_sum_sq;
  effect.partial_epsilon_sq = unbiased / with_error;
  effect.cohens_f = std::sqrt(test.sum_sq / test.residual_sum_sq);
  const double f = test.sum_sq / test.df / mse;
  const NoncentralityInterval lambda = NoncentralFInterval(f, test.df, test.residual_df, confidence);
  const double size = test.df + test.residual_df + 1.0;
  effect.partial_eta_sq_low = lambda.low / (lambda.low + size);
  effect.partial_eta_sq_high = lambda.high / (lambda.high + size);
  return effect;
}

}  // namespace loupe::analysis::stats
