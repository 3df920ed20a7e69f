// What the untuned base scores, beside what a sweep has made of it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "analysis/report/sweep_results.h"

namespace loupe::analysis::report {

struct UntunedBase {
  double mean = 0;  // over the trials
  // The factor whose levels have different bases, or tasks: within a replicate its levels differ, and nothing else
  // does. Empty where all cells have the same value, or where no one factor says which.
  std::string factor;
  std::vector<std::pair<std::string, double>> by_level;  // of `factor`: means over the replicates
  bool differs = false;                                  // within a replicate, whether a factor says why or not

  // "0.465"; "0.239 (network unet), 0.41 (dit)"; "0.465 on average, not the same for all cells".
  std::string Text() const;
};

// What the trials found of the untuned base: the mean of every "<score>_base", by score.
std::map<std::string, double> BaselineScores(const std::vector<TrialRecord>& trials);

// From the sweep's baseline_scores and its trials' "<response>_base". Nothing where the base was not scored.
std::optional<UntunedBase> FindUntunedBase(const SweepResults& results, const std::string& response);

}  // namespace loupe::analysis::report
