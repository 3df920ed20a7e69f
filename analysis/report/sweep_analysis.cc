#include "analysis/report/sweep_analysis.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "analysis/report/anova_format.h"
#include "analysis/stats/nesting.h"
#include "common/positions.h"
#include "common/score_table.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

// Counted into the hash: raise it when the numbers that a report derives from the same trials change.
constexpr int kAnalysisVersion = 3;

// The order in which a factor's levels are shown: the paper's for positions, else as the sweep file lists them.
std::vector<std::string> LevelsInOrder(const SweepFactor& factor) {
  std::vector<std::string> levels = factor.levels;
  const bool positions = std::all_of(levels.begin(), levels.end(),
                                     [](const std::string& level) { return ParsePosition(level).has_value(); });
  if (positions) {
    std::stable_sort(levels.begin(), levels.end(),
                     [](const std::string& a, const std::string& b) { return *ParsePosition(a) < *ParsePosition(b); });
  }
  return levels;
}

stats::RowStatus StatusOf(const TrialRecord& trial) {
  switch (trial.state) {
    case TrialState::kSucceeded:
      return trial.stopped_early ? stats::RowStatus::kStoppedEarly : stats::RowStatus::kComplete;
    case TrialState::kCancelled:
      return stats::RowStatus::kCancelled;
    default:
      return stats::RowStatus::kFailed;
  }
}

std::string ResponseOf(const SweepResults& results, const ReportOptions& options) {
  return options.response.empty() ? results.primary_score : options.response;
}

absl::Status CheckTrials(const SweepResults& results) {
  for (const TrialRecord& trial : results.trials) {
    if (trial.levels.size() != results.factors.size()) {
      return absl::InvalidArgumentError(fmt::format("trial {} names {} levels, but the sweep has {} factors",
                                                    trial.index, trial.levels.size(), results.factors.size()));
    }
    for (size_t f = 0; f < results.factors.size(); ++f) {
      const int64_t count = static_cast<int64_t>(results.factors[f].levels.size());
      if (trial.levels[f] == kNoSuchFactor && !results.factors[f].within.empty()) continue;
      if (trial.levels[f] < 0 || trial.levels[f] >= count) {
        return absl::InvalidArgumentError(fmt::format("trial {} has level {} of factor '{}', which has {} levels",
                                                      trial.index, trial.levels[f], results.factors[f].name, count));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckResponse(const SweepResults& results, const std::string& response) {
  bool any_succeeded = false;
  for (const TrialRecord& trial : results.trials) {
    if (trial.state != TrialState::kSucceeded) continue;
    any_succeeded = true;
    if (trial.scores.contains(response)) return absl::OkStatus();
  }
  if (!any_succeeded) return absl::OkStatus();
  std::set<std::string> names;
  for (const TrialRecord& trial : results.trials) {
    for (const auto& [name, value] : trial.scores) names.insert(name);
  }
  if (names.empty()) {
    return absl::InvalidArgumentError(
        "the trials that succeeded have no scores at all, so there is nothing to analyse");
  }
  return absl::InvalidArgumentError(
      fmt::format("no trial has a score named '{}'; there are: {}", response, fmt::join(names, ", ")));
}

// A factor of that name is no setting's: those have longer keys ("method.kind").
bool ComparesMethods(const SweepResults& results) {
  return std::any_of(results.factors.begin(), results.factors.end(), [](const SweepFactor& factor) {
    return factor.name == kMethodFactor && factor.key == kMethodFactor;
  });
}

// Of the trials that ObservationTable has rows of, in that order.
std::vector<CostColumn> CostsOf(const SweepResults& results) {
  std::vector<CostColumn> costs = {{kParametersCost, "parameters", CostUnit::kCount},
                                   {"seconds", "seconds"},
                                   {"file_bytes", "file", CostUnit::kBytes}};
  for (const TrialRecord& trial : results.trials) {
    if (!IsTerminal(trial.state)) continue;
    const double values[] = {trial.parameters, trial.duration_seconds, trial.file_bytes};
    for (size_t i = 0; i < costs.size(); ++i)
      costs[i].values.push_back(values[i] > 0 ? values[i] : std::numeric_limits<double>::quiet_NaN());
  }
  std::erase_if(costs, [](const CostColumn& cost) {
    return std::all_of(cost.values.begin(), cost.values.end(), [](double value) { return std::isnan(value); });
  });
  return costs;
}

void AddPart(std::string& text, int64_t count, std::string_view what) {
  if (count > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, what);
}

}  // namespace

std::map<std::string, std::string> AllSettings(const SweepResults& results) {
  std::map<std::string, std::string> all = results.provenance.settings;
  for (const SweepFactor& factor : results.factors) {
    for (size_t level = 0; level < factor.settings.size(); ++level) {
      for (const auto& [key, value] : factor.settings[level]) {
        all.emplace(fmt::format("{}: {}", factor.levels[level], key), value);
      }
    }
  }
  return all;
}

const std::string& LevelName(const SweepResults& results, const TrialRecord& trial, size_t factor) {
  static const std::string none;
  const int32_t level = trial.levels[factor];
  return level == kNoSuchFactor ? none : results.factors[factor].levels[static_cast<size_t>(level)];
}

bool SmallerIsBetter(const std::string& score) {
  const ScoreEntry* entry = FindScore(score);
  return entry != nullptr && entry->better == Better::kSmaller;
}

std::string ScoreTitle(const std::string& score) {
  const ScoreEntry* entry = FindScore(score);
  return entry != nullptr && entry->name == score ? std::string(entry->title) : score;
}

std::string TrialCount::Sentence() const {
  std::string parts;
  AddPart(parts, succeeded, "succeeded");
  AddPart(parts, failed, "failed");
  AddPart(parts, quarantined, "quarantined");
  AddPart(parts, cancelled, "cancelled");
  AddPart(parts, running, "running");
  AddPart(parts, queued, "waiting");
  std::string text = fmt::format("{} trial{}: {}", total, total == 1 ? "" : "s", parts.empty() ? "none" : parts);
  std::string asides;
  AddPart(asides, stopped_early, "of the succeeded were stopped early");
  AddPart(asides, without_response, "of the succeeded lack this score");
  return text + (asides.empty() ? "." : " (" + asides + ").");
}

std::vector<std::string> ScoreNames(const SweepResults& results) {
  std::set<std::string> names;
  for (const TrialRecord& trial : results.trials) {
    for (const auto& [name, value] : trial.scores) names.insert(name);
  }
  for (const auto& [name, value] : results.baseline_scores) names.insert(name);
  return {names.begin(), names.end()};
}

std::vector<FailureGroup> FailureGroups(const SweepResults& results) {
  std::map<std::string, std::vector<int64_t>> by_message;
  for (const TrialRecord& trial : results.trials) {
    if (trial.state != TrialState::kFailed && trial.state != TrialState::kQuarantined) continue;
    by_message[trial.failure_message.empty() ? "no message" : trial.failure_message].push_back(trial.index);
  }
  std::vector<FailureGroup> groups;
  groups.reserve(by_message.size());
  for (auto& [message, trials] : by_message) groups.push_back({message, trials});
  std::stable_sort(groups.begin(), groups.end(),
                   [](const FailureGroup& a, const FailureGroup& b) { return a.trials.size() > b.trials.size(); });
  return groups;
}

absl::StatusOr<stats::DataTable> ObservationTable(const SweepResults& results, const ReportOptions& options) {
  LOUPE_RETURN_IF_ERROR(CheckTrials(results));
  const std::string response = ResponseOf(results, options);
  LOUPE_RETURN_IF_ERROR(CheckResponse(results, response));
  std::vector<stats::FactorSpec> specs;
  for (const SweepFactor& factor : results.factors) specs.push_back({factor.name, LevelsInOrder(factor)});
  const bool replicated = results.replicates > 1;
  if (replicated) {
    stats::FactorSpec replicate{kReplicateFactor, {}};
    for (int32_t r = 0; r < results.replicates; ++r) replicate.levels.push_back(fmt::format("{}", r));
    specs.push_back(std::move(replicate));
  }
  stats::DataTableBuilder builder(response, specs);
  for (const TrialRecord& trial : results.trials) {
    if (!IsTerminal(trial.state)) continue;
    std::vector<std::string> levels;
    for (size_t f = 0; f < results.factors.size(); ++f) {
      levels.push_back(LevelName(results, trial, f));
    }
    if (replicated) levels.push_back(fmt::format("{}", trial.replicate));
    const auto score = trial.scores.find(response);
    double value = std::numeric_limits<double>::quiet_NaN();
    if (score != trial.scores.end() && std::isfinite(score->second)) value = score->second;
    LOUPE_RETURN_IF_ERROR(
        Annotate(builder.AddRow(levels, value, StatusOf(trial)), fmt::format("trial {}", trial.index)));
  }
  stats::DataTable table = std::move(builder).Build();
  if (!ComparesMethods(results)) return table;
  return stats::NestFactors(table, kMethodFactor, replicated ? kReplicateFactor : "");
}

std::string SnapshotHash(const SweepResults& results, const ReportOptions& options) {
  const std::string response = ResponseOf(results, options);
  Sha256 digest;
  // Every text is preceded by its length, so that no two different inputs give the same bytes.
  const auto text = [&digest](std::string_view value) { digest.Update(fmt::format("{}:{}", value.size(), value)); };
  digest.Update(fmt::format("loupe analysis {}\n", kAnalysisVersion));
  text(response);
  text(options.terms);
  digest.Update(
      fmt::format("{} {} {}\n", static_cast<int>(options.ss_type), options.confidence, options.include_stopped_early));
  for (const auto& [factor, level] : options.baseline) {
    text(factor);
    text(level);
  }
  if (!options.baseline_method.empty()) text(options.baseline_method);
  const ParameterBudget& budget = options.equal_parameters;
  if (budget.parameters != 0) digest.Update(fmt::format("{} within {}\n", budget.parameters, budget.tolerance));
  digest.Update(fmt::format("{} {}\n", options.simple_effects.size(), options.contrasts.size()));
  for (const std::string& question : options.simple_effects) text(question);
  for (const std::string& formula : options.contrasts) text(formula);
  if (!options.rankings_between.empty()) text(options.rankings_between);
  if (options.compare_with != nullptr) {
    ReportOptions alone = options;
    alone.baseline.clear();
    alone.baseline_method.clear();
    alone.equal_parameters = {};
    alone.simple_effects.clear();
    alone.contrasts.clear();
    alone.rankings_between.clear();
    alone.compare_with = nullptr;
    text(SnapshotHash(*options.compare_with, alone));
  }
  for (const SweepFactor& factor : results.factors) {
    text(factor.name);
    for (const std::string& level : factor.levels) text(level);
    if (!factor.within.empty()) text(factor.within);
    digest.Update("\n");
  }
  for (const TrialRecord& trial : results.trials) {
    const auto score = trial.scores.find(response);
    digest.Update(
        fmt::format("{} {} {} {}", trial.index, trial.replicate, TrialStateName(trial.state), trial.stopped_early));
    for (const int32_t level : trial.levels) digest.Update(fmt::format(" {}", level));
    digest.Update(score == trial.scores.end() ? std::string(" -\n") : fmt::format(" {}\n", score->second));
  }
  return digest.FinishHex();
}

namespace {

AnalysisOptions QuestionsOf(const SweepResults& results, const ReportOptions& options, const std::string& response) {
  AnalysisOptions analysis;
  analysis.anova.formula = options.terms;
  analysis.anova.ss_type = options.ss_type;
  analysis.anova.confidence = options.confidence;
  analysis.anova.include_stopped_early = options.include_stopped_early;
  analysis.anova.drop_single_level_factors = true;
  // Replicates share their random streams over all cells: they are blocks.
  if (results.replicates > 1) analysis.anova.block = kReplicateFactor;
  analysis.smaller_is_better = SmallerIsBetter(response);
  analysis.questions = {options.baseline, options.simple_effects, options.contrasts, {}};
  if (ComparesMethods(results)) {
    analysis.questions.methods = {kMethodFactor, options.baseline_method, CostsOf(results), options.equal_parameters};
  }
  analysis.allow_no_table = true;
  return analysis;
}

// Only the other sweep's cell means are wanted, so no model is fitted to it.
absl::StatusOr<RankingAgreement> Agreement(const FactorialAnalysis& analysis, const ReportOptions& options) {
  const SweepResults& other = *options.compare_with;
  ReportOptions other_options = options;
  other_options.response = analysis.response;
  const bool has_it = std::any_of(other.trials.begin(), other.trials.end(),
                                  [&](const TrialRecord& trial) { return trial.scores.contains(analysis.response); });
  if (!has_it) other_options.response.clear();
  FactorialAnalysis means;
  LOUPE_ASSIGN_OR_RETURN(means.data, ObservationTable(other, other_options));
  means.response = means.data.response_name;
  means.smaller_is_better = SmallerIsBetter(means.response);
  means.confidence = options.confidence;
  for (const SweepFactor& factor : other.factors) means.cell_factors.push_back(factor.name);
  return CompareRankings(analysis, means, other.sweep_id);
}

}  // namespace

absl::StatusOr<SweepAnalysis> AnalyseSweep(const SweepResults& results, const ReportOptions& options) {
  SweepAnalysis sweep;
  sweep.response = ResponseOf(results, options);
  for (const TrialRecord& trial : results.trials) {
    TrialCount& count = sweep.count;
    ++count.total;
    switch (trial.state) {
      case TrialState::kQueued:
        ++count.queued;
        break;
      case TrialState::kRunning:
        ++count.running;
        break;
      case TrialState::kSucceeded:
        ++count.succeeded;
        count.stopped_early += trial.stopped_early;
        count.without_response += !trial.scores.contains(sweep.response);
        break;
      case TrialState::kFailed:
        ++count.failed;
        break;
      case TrialState::kCancelled:
        ++count.cancelled;
        break;
      case TrialState::kQuarantined:
        ++count.quarantined;
        break;
    }
  }
  if (!ComparesMethods(results) && (!options.baseline_method.empty() || options.equal_parameters.parameters != 0)) {
    return absl::InvalidArgumentError(
        "this sweep compares no methods (its file has no 'methods:'), so there is no method to take as the baseline and "
        "no number of parameters to compare them at");
  }
  LOUPE_ASSIGN_OR_RETURN(stats::DataTable table, ObservationTable(results, options));
  LOUPE_ASSIGN_OR_RETURN(sweep.analysis,
                         AnalyseFactorial(std::move(table), QuestionsOf(results, options, sweep.response)));
  sweep.analysis.notes.insert(sweep.analysis.notes.end(), results.notes.begin(), results.notes.end());
  if (const auto warning = results.score_warnings.find(std::string(TunedScoreName(sweep.response)));
      warning != results.score_warnings.end()) {
    sweep.analysis.notes.push_back(fmt::format("{}: {}", warning->first, warning->second));
  }
  if (!options.rankings_between.empty()) {
    LOUPE_ASSIGN_OR_RETURN(
        sweep.level_rankings,
        RankingsBetweenLevels(sweep.analysis.data, options.rankings_between,
                              results.replicates > 1 ? kReplicateFactor : "", sweep.analysis.smaller_is_better,
                              options.confidence, options.include_stopped_early));
  }
  if (options.compare_with != nullptr) {
    LOUPE_ASSIGN_OR_RETURN(sweep.agreement, Agreement(sweep.analysis, options));
  }
  sweep.hash = SnapshotHash(results, options);
  return sweep;
}

}  // namespace loupe::analysis::report
