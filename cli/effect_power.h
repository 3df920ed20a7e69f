// What the F tests of a planned sweep will be able to see.
#pragma once

#include "coordinator/plan/plan_summary.h"

namespace loupe::cli {

struct PowerQuestion {
  double alpha = 0.05;   // level of the tests
  double power = 0.8;    // probability with which an effect is to be found
  double effect = 0.25;  // Cohen's f that is assumed; 0.10 is called small, 0.25 medium, 0.40 large (Cohen 1988 §8.2)
};

// For one term, when every trial gives a result. Everything is NaN (and replicates 0) where the term or the residual
// has no degrees of freedom.
struct EffectPower {
  // The smallest f that is found with the asked probability.
  double detectable_f = 0;
  // The distance of two level means, in standard deviations of one trial, that is found with the asked probability
  // whichever estimable pair it is and wherever the other levels lie: that of TermOutlook::hardest_pair. NaN for
  // interactions, and where no pair is estimable.
  double detectable_difference = 0;
  // Probability of finding the assumed effect.
  double power = 0;
  // Replicates with which the assumed effect is found with the asked probability; 0: more than 10,000.
  int replicates_needed = 0;
};

// The noncentral F of analysis/stats/power.h with n = all trials. `detectable_difference` is exact for every design.
// Cohen's f is an average over the trials: in unbalanced designs the other numbers hold for effects that are spread
// over the term's levels.
EffectPower PowerOfTerm(const coordinator::plan::Plan& plan, const coordinator::plan::PlanOutlook& outlook,
                        const coordinator::plan::TermOutlook& term, const PowerQuestion& question);

}  // namespace loupe::cli
