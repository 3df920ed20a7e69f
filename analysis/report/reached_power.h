// What the F tests of a finished analysis were able to find, beside what they found.
//
// Not "observed power" (the power at the effect that was found), which only says the p value again (Hoenig & Heisey
// 2001, The American Statistician 55:19): the effect is one that was fixed before.
#pragma once

#include <string>
#include <vector>

#include "analysis/stats/anova.h"

namespace loupe::analysis::report {

inline constexpr double kPowerAsked = 0.8;
inline constexpr double kPowerAlpha = 0.05;
inline constexpr double kMediumEffect = 0.25;  // Cohen's f; Cohen (1988) §8.2

struct ReachedPower {
  std::string term;
  double found_f = 0;       // Cohen's f of the sample
  double detectable_f = 0;  // the smallest f that so many trials find with probability kPowerAsked at level kPowerAlpha
  double power_of_medium = 0;  // probability of finding f = kMediumEffect
};

// One entry per term that was tested, in table order, without the block.
std::vector<ReachedPower> ComputeReachedPower(const stats::AnovaTable& anova);

}  // namespace loupe::analysis::report
