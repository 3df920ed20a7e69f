#include "cli/subset.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "absl/strings/ascii.h"
#include "common/settings/settings.h"
#include "common/status_macros.h"
#include "coordinator/plan/factor_names.h"
#include "coordinator/plan/sweep_file.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"

namespace loupe::cli {
namespace {

// Those of the plan's cells, over the factors and levels that vary among them.
analysis::stats::Candidates CandidatesOf(const coordinator::plan::Plan& plan, const std::vector<int64_t>& cells) {
  analysis::stats::Candidates candidates;
  candidates.cells.resize(cells.size());
  for (size_t f = 0; f < plan.factors().size(); ++f) {
    // Cells of other methods have a level of their own, which tells nothing beside the method.
    const size_t absent = plan.factors()[f].levels.size();
    const auto level_of = [&](int64_t cell) {
      const size_t level = plan.LevelIndex(cell, f);
      return level == coordinator::plan::Plan::kAbsent ? absent : level;
    };
    std::vector<int32_t> number(absent + 1, -1);
    analysis::stats::DesignFactor factor{.name = plan.FactorName(f), .levels = {}};
    for (const int64_t cell : cells) number[level_of(cell)] = 0;
    for (size_t level = 0; level < number.size(); ++level) {
      if (number[level] < 0) continue;
      number[level] = static_cast<int32_t>(factor.levels.size());
      factor.levels.push_back(level == absent ? "(other methods)" : plan.factors()[f].levels[level]);
    }
    if (factor.levels.size() < 2 + static_cast<size_t>(number[absent] >= 0)) continue;
    for (size_t i = 0; i < cells.size(); ++i) candidates.cells[i].push_back(number[level_of(cells[i])]);
    candidates.factors.push_back(std::move(factor));
  }
  return candidates;
}

absl::Status CheckTrials(const coordinator::plan::Plan& plan, int64_t trials, int64_t cells_left) {
  const int32_t replicates = plan.spec().replicates;
  if (trials > cells_left * replicates) {
    return absl::InvalidArgumentError(fmt::format("--trials {}: there are only {} ({} cells × {} replicates)", trials,
                                                  cells_left * replicates, cells_left, replicates));
  }
  if (trials % replicates != 0) {
    return absl::InvalidArgumentError(
        fmt::format("--trials {}: each cell runs {} times, once per replicate; ask for {} or {}, or change "
                    "'replicates' in the file",
                    trials, replicates, trials - trials % replicates, trials - trials % replicates + replicates));
  }
  if (cells_left > kMaxCandidates) {
    return absl::InvalidArgumentError(
        fmt::format("--trials: {} cells are too many to choose from (at most {}); take out factors or levels",
                    cells_left, kMaxCandidates));
  }
  return absl::OkStatus();
}

// `fraction.chosen` as positions in `cells` becomes cell numbers and selections.
Subset SubsetOf(const coordinator::plan::Plan& plan, const std::vector<int64_t>& cells,
                analysis::stats::Fraction fraction) {
  Subset subset{.fraction = std::move(fraction), .spec = plan.spec()};
  subset.spec.selections.clear();
  for (size_t& chosen : subset.fraction.chosen) {
    const int64_t cell = cells[chosen];
    chosen = static_cast<size_t>(cell);
    subset.spec.selections.push_back(plan.PatternOf(cell));
  }
  return subset;
}

}  // namespace

absl::StatusOr<Subset> ChooseSubset(const coordinator::plan::Plan& plan, int64_t trials, std::string_view formula) {
  LOUPE_RETURN_IF_ERROR(CheckTrials(plan, trials, plan.cell_count()));
  std::vector<int64_t> cells(static_cast<size_t>(plan.cell_count()));
  std::iota(cells.begin(), cells.end(), 0);
  LOUPE_ASSIGN_OR_RETURN(analysis::stats::Fraction fraction,
                         analysis::stats::ChooseFraction(
                             CandidatesOf(plan, cells), {.formula = std::string(formula),
                                                         .trials = static_cast<size_t>(trials / plan.spec().replicates),
                                                         .seed = plan.spec().seed}));
  return SubsetOf(plan, cells, std::move(fraction));
}

absl::StatusOr<Addition> ChooseAdditional(const coordinator::plan::Plan& source,
                                          const std::vector<CellOutcome>& outcomes, int64_t trials,
                                          std::string_view formula) {
  coordinator::plan::SweepSpec whole = source.spec();
  whole.selections.clear();
  LOUPE_ASSIGN_OR_RETURN(coordinator::plan::Plan all, coordinator::plan::Plan::Create(std::move(whole)));
  std::set<std::map<std::string, std::string>> run, given_up;
  for (const CellOutcome& outcome : outcomes) {
    if (outcome.results > 0) run.insert(outcome.levels);
  }
  for (const CellOutcome& outcome : outcomes) {
    if (outcome.failures > 0 && !run.contains(outcome.levels)) given_up.insert(outcome.levels);
  }
  if (run.empty()) {
    return absl::FailedPreconditionError(
        "no cell has a result yet, so there is nothing to add to: submit a sweep file instead");
  }
  std::vector<int64_t> cells;
  std::vector<size_t> already_run;
  for (int64_t cell = 0; cell < all.cell_count(); ++cell) {
    const std::map<std::string, std::string> levels = all.CellLevels(cell);
    if (given_up.contains(levels)) continue;
    if (run.contains(levels)) already_run.push_back(cells.size());
    cells.push_back(cell);
  }
  const auto left = static_cast<int64_t>(cells.size() - already_run.size());
  if (left == 0) {
    return absl::FailedPreconditionError(
        "every legal cell of this design has run; to learn more, submit a sweep file with more levels, or with more "
        "replicates");
  }
  LOUPE_RETURN_IF_ERROR(CheckTrials(all, trials, left));
  LOUPE_ASSIGN_OR_RETURN(analysis::stats::Fraction fraction,
                         analysis::stats::ChooseFraction(CandidatesOf(all, cells),
                                                         {.formula = std::string(formula),
                                                          .trials = static_cast<size_t>(trials / all.spec().replicates),
                                                          .seed = all.spec().seed,
                                                          .already_run = already_run}));
  Addition addition{.subset = SubsetOf(all, cells, std::move(fraction)),
                    .all = std::move(all),
                    .run_cells = static_cast<int64_t>(already_run.size())};
  if (!given_up.empty()) {
    addition.notes.push_back(
        fmt::format("{} cell{} whose trials were given up {} not chosen; 'loupe retry' runs them again.",
                    given_up.size(), given_up.size() == 1 ? "" : "s", given_up.size() == 1 ? "is" : "are"));
  }
  return addition;
}

absl::StatusOr<std::string> WithSelections(std::string_view text, const coordinator::plan::SweepSpec& spec) {
  LOUPE_ASSIGN_OR_RETURN(const coordinator::plan::SweepFile file,
                         coordinator::plan::ParseSweepFile(text, "the sweep file"));
  if (!file.spec.selections.empty()) {
    return absl::InvalidArgumentError("the sweep file has an 'only' list already; take it out first");
  }
  std::string result(text);
  if (!result.ends_with('\n')) result += '\n';
  result += "\n# The chosen cells: these alone are run.\nonly:\n";
  for (const coordinator::plan::CellPattern& pattern : spec.selections) {
    // The method and what is its own, then the factors as they stand in the file.
    std::vector<std::string> levels;
    const auto add = [&](const std::string& key, const std::string& level) {
      // A JSON text is a YAML one too, whatever it holds. A label in a key may need it.
      const bool is_plain = std::all_of(key.begin(), key.end(), [](unsigned char c) {
        return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
      });
      levels.push_back(
          fmt::format("{}: {}", is_plain ? key : nlohmann::json(key).dump(), nlohmann::json(level).dump()));
    };
    for (const auto& [key, level] : pattern) {
      if (!coordinator::plan::FindFactor(spec.factors, key).has_value()) add(key, level);
    }
    for (const coordinator::plan::SweepFactor& factor : spec.factors) add(factor.key, pattern.at(factor.key));
    result += fmt::format("  - {{{}}}\n", fmt::join(levels, ", "));
  }
  // A file in flow style ("{name: …}") or with an end mark cannot be appended to: read it back rather than hope.
  const absl::StatusOr<coordinator::plan::SweepFile> written =
      coordinator::plan::ParseSweepFile(result, "the written file");
  if (!written.ok() || written->spec.selections.size() != spec.selections.size()) {
    return absl::InvalidArgumentError(
        "the chosen cells cannot be appended to the sweep file: write it with one key per line, not in braces, and "
        "without "
        "an end mark ('...')");
  }
  return result;
}

}  // namespace loupe::cli
