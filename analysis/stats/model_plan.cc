#include "analysis/stats/model_plan.h"

#include <algorithm>
#include <set>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

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
    if (cells.levels(i) > 1) continue;
    const Factor& factor = data.factors[cells.factors[i]];
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
  const auto has_single = [&](const ModelTerm& term) {
    return std::any_of(single.begin(), single.end(),
                       [&](size_t factor) { return std::find(term.begin(), term.end(), factor) != term.end(); });
  };
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

}  // namespace loupe::analysis
