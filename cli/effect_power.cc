#include "cli/effect_power.h"

#include <cmath>

#include "analysis/stats/power.h"

namespace loupe::cli {

EffectPower PowerOfTerm(const coordinator::plan::Plan& plan, const coordinator::plan::PlanOutlook& outlook,
                        const coordinator::plan::TermOutlook& term, const PowerQuestion& question) {
  const double nan = std::nan("");
  if (term.df < 1 || outlook.residual_df < 1) return {nan, nan, nan, 0};
  const analysis::stats::FTestPlan test{.df = static_cast<double>(term.df),
                                        .residual_df = static_cast<double>(outlook.residual_df),
                                        .n = static_cast<double>(plan.trial_count()),
                                        .alpha = question.alpha};
  const int64_t parameters = plan.trial_count() - outlook.residual_df - outlook.block_df;
  return {.detectable_f = analysis::stats::MinimumDetectableF(test, question.power),
          .detectable_difference =
              analysis::stats::MinimumDetectableDifference(test, term.hardest_variance, question.power),
          .power = analysis::stats::FTestPower(test, question.effect),
          .replicates_needed = analysis::stats::ReplicatesNeeded(
              static_cast<int>(plan.cell_count()), static_cast<int>(parameters), test.df, question.effect,
              question.alpha, question.power, /*blocks_are_replicates=*/true)};
}

}  // namespace loupe::cli
