#include "analysis/report/untuned_base.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "analysis/report/number_format.h"
#include "common/score_table.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

// The same pictures scored in packs of other widths may differ in their last digits.
bool Same(double a, double b) { return std::abs(a - b) <= 1e-4 * std::max(std::abs(a), std::abs(b)); }

struct Scored {
  const TrialRecord* trial;
  double value;
};

// Whether each group of a replicate has one value.
template <typename GroupOf>
bool HasOneEach(const std::vector<Scored>& scored, const GroupOf& group_of) {
  std::map<std::pair<int32_t, int32_t>, double> first;
  for (const Scored& one : scored) {
    const auto [at, is_new] = first.emplace(std::pair(one.trial->replicate, group_of(*one.trial)), one.value);
    if (!is_new && !Same(at->second, one.value)) return false;
  }
  return true;
}

}  // namespace

std::string UntunedBase::Text() const {
  if (!differs) return FormatNumber(mean);
  if (by_level.empty()) return fmt::format("{} on average, not the same for all cells", FormatNumber(mean));
  std::string text;
  for (const auto& [level, value] : by_level) {
    text += text.empty() ? fmt::format("{} ({} {})", FormatNumber(value), factor, level)
                         : fmt::format(", {} ({})", FormatNumber(value), level);
  }
  return text;
}

std::map<std::string, double> BaselineScores(const std::vector<TrialRecord>& trials) {
  struct Sum {
    double sum = 0;
    long double wide = 0;  // where the sum is beyond a double, though the mean is not
    int64_t count = 0;
  };
  std::map<std::string, Sum> sums;
  for (const TrialRecord& trial : trials) {
    for (const auto& [name, value] : trial.scores) {
      if (!IsUntunedScore(name) || !std::isfinite(value)) continue;
      Sum& of = sums[std::string(TunedScoreName(name))];
      of.sum += value;
      of.wide += value;
      ++of.count;
    }
  }
  std::map<std::string, double> means;
  for (const auto& [name, of] : sums) {
    const double mean = std::isfinite(of.sum) ? of.sum / static_cast<double>(of.count)
                                              : static_cast<double>(of.wide / static_cast<long double>(of.count));
    means.emplace(name, mean);
  }
  return means;
}

std::optional<UntunedBase> FindUntunedBase(const SweepResults& results, const std::string& response) {
  const auto mean = results.baseline_scores.find(response);
  if (mean == results.baseline_scores.end()) return std::nullopt;
  UntunedBase found{.mean = mean->second};
  std::vector<Scored> scored;
  for (const TrialRecord& trial : results.trials) {
    const auto value = trial.scores.find(UntunedScoreName(response));
    if (value != trial.scores.end() && std::isfinite(value->second)) scored.push_back({&trial, value->second});
  }
  found.differs = !HasOneEach(scored, [](const TrialRecord&) { return 0; });
  if (!found.differs) return found;
  for (size_t factor = 0; factor < results.factors.size(); ++factor) {
    const auto level_of = [&](const TrialRecord& trial) { return trial.levels[factor]; };
    if (!HasOneEach(scored, level_of)) continue;
    std::map<int32_t, std::pair<long double, int64_t>> sums;  // wider: scores may be near a double's end
    for (const Scored& one : scored) {
      auto& [sum, count] = sums[level_of(*one.trial)];
      sum += one.value;
      ++count;
    }
    found.factor = results.factors[factor].name;
    for (const auto& [level, sum] : sums) {
      const std::string name =
          level == kNoSuchFactor ? "none" : results.factors[factor].levels[static_cast<size_t>(level)];
      found.by_level.emplace_back(name, static_cast<double>(sum.first / static_cast<long double>(sum.second)));
    }
    break;
  }
  return found;
}

}  // namespace loupe::analysis::report
