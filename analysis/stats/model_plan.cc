#include "analysis/stats/model_plan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

// The levels at which a term's nested factors exist: more than one when they never do together.
std::set<std::string> LevelsOfNested(const DataTable& data, const ModelTerm& term) {
  std::set<std::string> levels;
  for (const size_t f : term) {
    if (!data.factors[f].nested_in.empty()) levels.insert(data.factors[f].nested_level);
  }
  return levels;
}

// A term with nested factors gets the one that they are nested in, and the model the term that is left without them:
// both are its margins, whatever was written.
absl::Status CloseOverNesting(const DataTable& data, ModelPlan& plan) {
  if (std::all_of(data.factors.begin(), data.factors.end(),
                  [](const Factor& factor) { return factor.nested_in.empty(); })) {
    return absl::OkStatus();
  }
  std::vector<ModelTerm> closed;
  const auto add = [&](ModelTerm term) {
    std::sort(term.begin(), term.end());
    term.erase(std::unique(term.begin(), term.end()), term.end());
    if (!term.empty() && std::find(closed.begin(), closed.end(), term) == closed.end())
      closed.push_back(std::move(term));
  };
  for (ModelTerm term : plan.terms) {
    const std::set<std::string> levels = LevelsOfNested(data, term);
    if (levels.size() > 1) {
      plan.warnings.push_back(
          fmt::format("{} was left out of the model: no trial can have both of its factors.", TermName(term, data)));
      continue;
    }
    if (levels.empty()) {
      add(term);
      continue;
    }
    ModelTerm margin;
    for (const size_t f : ModelTerm(term)) {
      const Factor& factor = data.factors[f];
      if (factor.nested_in.empty()) {
        margin.push_back(f);
        continue;
      }
      LOUPE_ASSIGN_OR_RETURN(const size_t outer, data.FactorIndex(factor.nested_in));
      term.push_back(outer);
      margin.push_back(outer);
      add({outer});
    }
    add(std::move(margin));
    add(std::move(term));
  }
  std::stable_sort(closed.begin(), closed.end(),
                   [](const ModelTerm& a, const ModelTerm& b) { return a.size() < b.size(); });
  plan.terms = std::move(closed);
  if (plan.terms.empty()) return absl::InvalidArgumentError("no term of the model can be tested");
  return absl::OkStatus();
}

absl::StatusOr<ModelPlan> PlanModel(const DataTable& data, const AnovaOptions& options) {
  ModelPlan plan;
  size_t block = data.factors.size();
  if (!options.block.empty()) {
    LOUPE_ASSIGN_OR_RETURN(block, data.FactorIndex(options.block));
    plan.has_block = true;
  }
  if (options.formula.empty()) {
    for (size_t factor = 0; factor < data.factors.size(); ++factor) {
      if (factor != block) plan.terms.push_back({factor});
    }
    if (plan.terms.empty()) return absl::InvalidArgumentError("no factor to test; name at least one");
  } else {
    LOUPE_ASSIGN_OR_RETURN(plan.terms, ParseModelFormula(options.formula, data));
  }
  for (const ModelTerm& term : plan.terms) {
    if (plan.has_block && std::find(term.begin(), term.end(), block) != term.end()) {
      return absl::InvalidArgumentError(fmt::format(
          "'{}' is the block and also in the term '{}'; blocks enter by themselves, as one additive term: take it out of "
          "the model or out of the block",
          options.block, TermName(term, data)));
    }
  }
  LOUPE_RETURN_IF_ERROR(CloseOverNesting(data, plan));
  if (plan.has_block) plan.terms.insert(plan.terms.begin(), ModelTerm{block});
  std::set<size_t> factors;
  for (const ModelTerm& term : plan.terms) factors.insert(term.begin(), term.end());
  plan.factors.assign(factors.begin(), factors.end());
  return plan;
}

// Refuses or drops the factors that have one level in the rows used. True if the plan changed.
absl::StatusOr<bool> HandleSingleLevels(const DataTable& data, const CellTable& cells, bool drop, ModelPlan& plan,
                                        std::vector<std::string>& warnings) {
  std::vector<size_t> single;
  for (size_t i = 0; i < cells.factors.size(); ++i) {
    if (cells.own_levels(i) > 1) continue;
    const Factor& factor = data.factors[cells.factors[i]];
    if (cells.NestingOf(i).nested) {  // what is settled within one method is no reason to refuse the others
      if (cells.own_levels(i) == 1) {
        warnings.push_back(
            fmt::format("Factor {} was left out: it has only one level ({}) in the rows of {} that are used.",
                        factor.name, factor.levels[static_cast<size_t>(cells.used_levels[i][0])], factor.nested_level));
      }
      single.push_back(cells.factors[i]);
      continue;
    }
    const std::string& level = factor.levels[static_cast<size_t>(cells.used_levels[i][0])];
    if (!drop) {
      return absl::InvalidArgumentError(fmt::format(
          "factor '{}' has only one level ('{}') in the {} rows used, so there is nothing to compare; leave it out of the "
          "factors or add rows with another level",
          factor.name, level, cells.sample.used));
    }
    warnings.push_back(fmt::format("Factor {} was left out: it has only one level ({}) in the {} rows used.",
                                   factor.name, level, cells.sample.used));
    single.push_back(cells.factors[i]);
  }
  if (single.empty()) return false;
  const auto is_single = [&](size_t factor) { return std::find(single.begin(), single.end(), factor) != single.end(); };
  const auto has_single = [&](const ModelTerm& term) { return std::any_of(term.begin(), term.end(), is_single); };
  // Where one method is left, its own factors are factors like others.
  for (ModelTerm& term : plan.terms) {
    const ModelTerm whole = term;
    std::erase_if(term, [&](size_t factor) {
      return is_single(factor) && cells.IsImplied(factor, whole) &&
             std::none_of(whole.begin(), whole.end(),
                          [&](size_t other) { return other != factor && is_single(other); });
    });
  }
  if (plan.has_block && has_single(plan.terms.front())) plan.has_block = false;
  std::erase_if(plan.terms, has_single);
  for (const size_t factor : single) std::erase(plan.factors, factor);
  if (plan.terms.empty() || (plan.has_block && plan.terms.size() == 1)) {
    return absl::InvalidArgumentError("every factor has only one level in the rows used; there is nothing to compare");
  }
  return true;
}

}  // namespace

absl::StatusOr<PlannedCells> PlanCells(const DataTable& data, const AnovaOptions& options) {
  PlannedCells planned;
  planned.warnings = data.warnings;
  LOUPE_ASSIGN_OR_RETURN(planned.plan, PlanModel(data, options));
  planned.warnings.insert(planned.warnings.end(), planned.plan.warnings.begin(), planned.plan.warnings.end());
  LOUPE_ASSIGN_OR_RETURN(planned.cells, BuildCellTable(data, planned.plan.factors, options.include_stopped_early));
  LOUPE_ASSIGN_OR_RETURN(const bool changed, HandleSingleLevels(data, planned.cells, options.drop_single_level_factors,
                                                                planned.plan, planned.warnings));
  if (changed) {
    LOUPE_ASSIGN_OR_RETURN(planned.cells, BuildCellTable(data, planned.plan.factors, options.include_stopped_early));
  }
  return planned;
}

absl::Status NoResidualError(const DataTable& data, const PlannedCells& planned, int64_t rank) {
  const ModelPlan& plan = planned.plan;
  const CellTable& cells = planned.cells;
  const size_t deepest = plan.terms.back().size();
  const std::string advice = deepest > 1
                                 ? fmt::format("leave out the interactions of order {} (such as {}), or add replicates",
                                               deepest, TermName(plan.terms.back(), data))
                                 : std::string("leave out a factor, or add replicates");
  return absl::InvalidArgumentError(fmt::format(
      "the model {} has {} parameters for {} rows, so no degree of freedom is left to estimate the error{}; {}",
      FormulaText(plan.terms, data), rank, cells.sample.used, cells.pure_error_df == 0 ? " (one row per cell)" : "",
      advice));
}

}  // namespace loupe::analysis::stats
