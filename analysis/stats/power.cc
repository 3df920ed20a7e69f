#include "analysis/stats/power.h"

#include <cmath>

#include "analysis/stats/distributions.h"
#include "analysis/stats/nan.h"
#include "analysis/stats/root_finder.h"

namespace loupe::analysis::stats {
namespace {

double PowerAt(const FTestPlan& plan, double noncentrality) {
  const double critical = FQuantile(1 - plan.alpha, plan.df, plan.residual_df);
  return 1 - NoncentralFCdf(critical, plan.df, plan.residual_df, noncentrality);
}

bool IsTestable(const FTestPlan& plan) {
  return plan.df > 0 && plan.residual_df > 0 && plan.n > 0 && plan.alpha > 0 && plan.alpha < 1;
}

}  // namespace

double FTestPower(const FTestPlan& plan, double cohens_f) {
  if (!IsTestable(plan) || !(cohens_f >= 0)) return kNaN;
  return PowerAt(plan, cohens_f * cohens_f * plan.n);
}

double MinimumDetectableF(const FTestPlan& plan, double power) {
  if (!IsTestable(plan) || !(power > plan.alpha && power < 1)) return kNaN;
  const auto excess = [&](double lambda) { return PowerAt(plan, lambda) - power; };
  double high = 8;
  while (excess(high) < 0 && high < 1e12) high *= 2;
  return std::sqrt(FindRoot(excess, 0.0, high, 40) / plan.n);
}

double MinimumDetectableDifference(const FTestPlan& plan, double variance, double power) {
  return MinimumDetectableF(plan, power) * std::sqrt(plan.n * variance);
}

int ReplicatesNeeded(int cells, int parameters, double df, double cohens_f, double alpha, double power,
                     bool blocks_are_replicates) {
  for (int replicates = 1; replicates <= 10000; ++replicates) {
    const double n = static_cast<double>(cells) * replicates;
    const double residual_df = n - parameters - (blocks_are_replicates ? replicates - 1 : 0);
    if (residual_df < 1) continue;
    if (FTestPower({.df = df, .residual_df = residual_df, .n = n, .alpha = alpha}, cohens_f) >= power)
      return replicates;
  }
  return 0;
}

}  // namespace loupe::analysis::stats
