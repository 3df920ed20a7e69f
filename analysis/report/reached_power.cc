#include "analysis/report/reached_power.h"

#include <cmath>

#include "analysis/stats/power.h"

namespace loupe::analysis::report {

std::vector<ReachedPower> ComputeReachedPower(const stats::AnovaTable& anova) {
  std::vector<ReachedPower> out;
  for (const stats::AnovaTerm& term : anova.terms) {
    if (term.is_block || !term.estimable || std::isnan(term.f)) continue;
    const stats::FTestPlan plan{.df = term.df,
                                .residual_df = anova.residual.df,
                                .n = static_cast<double>(anova.sample.used),
                                .alpha = kPowerAlpha};
    out.push_back({term.term, term.effect.cohens_f, stats::MinimumDetectableF(plan, kPowerAsked),
                   stats::FTestPower(plan, kMediumEffect)});
  }
  return out;
}

}  // namespace loupe::analysis::report
