#include "coordinator/plan/plan_summary.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <unordered_set>

#include "analysis/stats/cell_table.h"
#include "analysis/stats/estimability.h"
#include "analysis/stats/model_formula.h"
#include "analysis/stats/model_matrix.h"
#include "analysis/stats/model_reduction.h"
#include "analysis/stats/nesting.h"
#include "analysis/stats/ordered_projection.h"
#include "analysis/stats/pair_information.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator::plan {
namespace {

// Multiplications of the design matrix's QR that are still a matter of seconds.
constexpr double kMaxFactorWork = 1e10;
constexpr size_t kMostLevelsPaired = 200;

// The cells as the analysis will see them, without responses: ranks need none. Where methods are compared, a factor
// that is nested in one of them has a level more, that of the other methods' cells: beside the method itself that level
// tells nothing, so that ranks and differences of the others are those of the nested factor.
struct Design {
  analysis::stats::DataTable table;
  analysis::stats::CellTable cells;
  // Per factor: whether it is nested in "method", which is factor 0 then.
  std::vector<bool> nested;

  // Levels that occur, without that of other methods' cells.
  size_t own_levels(size_t factor) const { return cells.levels(factor) - (nested[factor] ? 1 : 0); }
};

constexpr std::string_view kElsewhere = "(other methods)";

Design DesignOf(const Plan& plan) {
  Design design;
  const auto count = static_cast<size_t>(plan.cell_count());
  for (size_t f = 0; f < plan.factors().size(); ++f) {
    analysis::stats::Factor factor{.name = plan.FactorName(f), .levels = plan.factors()[f].levels, .codes = {}};
    const bool nested = !plan.factors()[f].within.empty();
    const size_t elsewhere = factor.levels.size();
    if (nested) factor.levels.emplace_back(kElsewhere);
    std::vector<int32_t> used_as(factor.levels.size(), analysis::stats::kMissingLevel);
    factor.codes.reserve(count);
    for (size_t cell = 0; cell < count; ++cell) {
      const size_t index = plan.LevelIndex(static_cast<int64_t>(cell), f);
      const size_t level = index == Plan::kAbsent ? elsewhere : index;
      factor.codes.push_back(static_cast<int32_t>(level));
      used_as[level] = 0;
    }
    std::vector<int32_t> used;
    for (size_t level = 0; level < used_as.size(); ++level) {
      if (used_as[level] == analysis::stats::kMissingLevel) continue;
      used_as[level] = static_cast<int32_t>(used.size());
      used.push_back(static_cast<int32_t>(level));
    }
    std::vector<int32_t> codes;
    codes.reserve(count);
    for (const int32_t code : factor.codes) codes.push_back(used_as[static_cast<size_t>(code)]);
    // With one method left by 'only', no cell is elsewhere.
    design.nested.push_back(nested && used_as[elsewhere] != analysis::stats::kMissingLevel);
    design.cells.factors.push_back(f);
    design.cells.used_levels.push_back(std::move(used));
    design.cells.codes.push_back(std::move(codes));
    design.table.factors.push_back(std::move(factor));
  }
  design.table.response_deviation.assign(count, 0.0);
  design.cells.n.assign(count, 1.0);
  design.cells.mean.assign(count, 0.0);
  design.cells.within_sum_sq.assign(count, 0.0);
  design.cells.total_n = static_cast<double>(count);
  return design;
}

int64_t OccurringCombinations(const Design& design, const analysis::stats::ModelTerm& term) {
  std::unordered_set<uint64_t> seen;
  for (size_t cell = 0; cell < design.cells.cells(); ++cell) {
    uint64_t code = 0;
    bool elsewhere = false;
    for (const size_t factor : term) {
      const auto level = static_cast<uint64_t>(design.cells.codes[factor][cell]);
      // The level of other methods' cells is the last.
      elsewhere = elsewhere || (design.nested[factor] && level + 1 == design.cells.levels(factor));
      code = code * design.cells.levels(factor) + level;
    }
    if (!elsewhere) seen.insert(code);
  }
  return static_cast<int64_t>(seen.size());
}

// A nested factor's term always holds the method, which is factor 0.
analysis::stats::ModelTerm WithMethod(const Design& design, analysis::stats::ModelTerm term) {
  const bool nested = std::any_of(term.begin(), term.end(), [&](size_t factor) { return design.nested[factor]; });
  if (nested && std::find(term.begin(), term.end(), 0) == term.end()) term.insert(term.begin(), 0);
  return term;
}

// A nested factor's effects are differences within its method: its terms contain the method, as an interaction contains
// its factors, and the method is tested without them.
bool IsContainedIn(const Design& design, const analysis::stats::ModelTerm& term,
                   const analysis::stats::ModelTerm& other) {
  return term != other && analysis::stats::IsContained(WithMethod(design, term), WithMethod(design, other));
}

// Σ over what occurs of the products of (levels − 1), the other methods' level left out.
int64_t NominalDf(const Design& design, const analysis::stats::ModelTerm& term) {
  int64_t df = 1;
  for (const size_t factor : term) df *= static_cast<int64_t>(design.own_levels(factor)) - 1;
  return df;
}

// As the analysis takes terms of nested factors: each by itself, its columns beside those of the method (whose part of
// it the other methods' level is), after the term that is left without the nested ones; fewer factors first.
void CloseOverNesting(const Design& design, std::vector<analysis::stats::ModelTerm>& terms) {
  if (std::find(design.nested.begin(), design.nested.end(), true) == design.nested.end()) return;
  std::vector<analysis::stats::ModelTerm> closed;
  const auto add = [&](analysis::stats::ModelTerm term) {
    if (std::find(closed.begin(), closed.end(), term) == closed.end()) closed.push_back(std::move(term));
  };
  for (analysis::stats::ModelTerm term : terms) {
    analysis::stats::ModelTerm margin = WithMethod(design, term);
    if (std::any_of(term.begin(), term.end(), [&](size_t factor) { return design.nested[factor]; })) {
      std::erase(term, 0);
      std::erase_if(margin, [&](size_t factor) { return design.nested[factor]; });
      add({0});
      add(std::move(margin));
    }
    add(std::move(term));
  }
  std::stable_sort(closed.begin(), closed.end(),
                   [&](const analysis::stats::ModelTerm& a, const analysis::stats::ModelTerm& b) {
                     return WithMethod(design, a).size() < WithMethod(design, b).size();
                   });
  terms = std::move(closed);
}

// The terms that can be tested at all: those whose factors all have two levels or more.
absl::StatusOr<std::vector<analysis::stats::ModelTerm>> TestableTerms(const Design& design, std::string_view formula) {
  std::vector<analysis::stats::ModelTerm> terms;
  if (formula.empty()) {
    for (size_t f = 0; f < design.table.factors.size(); ++f) terms.push_back({f});
  } else {
    LOUPE_ASSIGN_OR_RETURN(terms, analysis::stats::ParseModelFormula(formula, design.table));
  }
  CloseOverNesting(design, terms);
  std::erase_if(terms, [&](const analysis::stats::ModelTerm& term) {
    return std::any_of(term.begin(), term.end(), [&](size_t factor) { return design.own_levels(factor) < 2; }) ||
           OccurringCombinations(design, term) == 0;
  });
  return terms;
}

// The entry of the methods that has the nested factors of a term; empty where there are none.
std::string WithinOf(const Plan& plan, const Design& design, const analysis::stats::ModelTerm& term) {
  for (const size_t factor : term) {
    if (design.nested[factor]) return plan.factors()[factor].within;
  }
  return "";
}

void FillPairs(const Plan& plan, const Design& design, const std::vector<analysis::stats::PairInformation>& pairs,
               size_t factor, TermOutlook& term) {
  const auto name = [&](int32_t level) {
    const auto code = design.cells.used_levels[factor][static_cast<size_t>(level)];
    return design.table.factors[factor].levels[static_cast<size_t>(code)];
  };
  double easiest = std::numeric_limits<double>::infinity(), hardest = 0;
  for (const analysis::stats::PairInformation& pair : pairs) {
    // With the other methods' cells there is nothing to compare.
    const auto elsewhere = static_cast<int32_t>(design.own_levels(factor));
    if (design.nested[factor] && (pair.first == elsewhere || pair.second == elsewhere)) continue;
    ++term.pairs;
    if (!pair.estimable) {
      term.not_estimable.emplace_back(name(pair.first), name(pair.second));
      continue;
    }
    easiest = std::min(easiest, pair.variance);
    if (pair.variance <= hardest * (1 + 1e-9)) continue;  // of equal ones the first
    hardest = pair.variance;
    term.hardest_pair = {name(pair.first), name(pair.second)};
    term.hardest_variance = pair.variance / plan.spec().replicates;
  }
  term.pairs_differ = easiest < hardest * (1 - 1e-9);
}

void FillTerms(const Plan& plan, const Design& design, const analysis::stats::ModelMatrix& model,
               const analysis::stats::ModelReduction& reduction, PlanOutlook& outlook) {
  const std::vector<analysis::stats::ModelTerm>& terms = model.terms();
  const analysis::stats::Reduced reduced = reduction.Whole();
  for (size_t t = 0; t < terms.size(); ++t) {
    std::vector<size_t> before;
    for (size_t other = 0; other < terms.size(); ++other) {
      if (other != t && !IsContainedIn(design, terms[t], terms[other])) before.push_back(other);
    }
    const Eigen::Index df = reduction.Test(t, before).rank;
    TermOutlook term{.term = analysis::stats::TermName(terms[t], design.table),
                     .within = WithinOf(plan, design, terms[t]),
                     .levels = OccurringCombinations(design, terms[t]),
                     .nominal_df = NominalDf(design, terms[t]),
                     .df = df};
    if (term.aliased_df() > 0) {
      term.note = analysis::stats::ExplainLostDegrees(design.table, design.cells, model, reduction, t, before, df).note;
    }
    if (terms[t].size() == 1 && design.cells.levels(terms[t][0]) <= kMostLevelsPaired) {
      FillPairs(plan, design, analysis::stats::ComparePairsOfLevels(model, design.cells, reduced, t, before),
                terms[t][0], term);
    }
    outlook.terms.push_back(std::move(term));
  }
  const Eigen::Index rank = reduction.rank();
  outlook.residual_df = plan.trial_count() - rank - outlook.block_df;
  outlook.has_terms = true;
  if (outlook.residual_df < 1) {
    outlook.notes.push_back(
        fmt::format("no degrees of freedom are left for the residual, so nothing can be tested: add "
                    "replicates or take out terms ({} trials, {} parameters)",
                    plan.trial_count(), rank + outlook.block_df));
  } else if (plan.spec().replicates == 1) {
    outlook.notes.push_back(
        "one replicate: the residual holds only interactions, and there is no measure of pure error; "
        "add replicates to get one");
  }
}

}  // namespace

std::string TermOutlook::title() const { return analysis::stats::NestedTermName(term, within); }

absl::StatusOr<PlanOutlook> Outlook(const Plan& plan, std::string_view formula) {
  PlanOutlook outlook;
  outlook.notes = plan.notes();
  if (const std::optional<SearchSpec>& search = plan.spec().search) {
    outlook.notes.push_back(fmt::format(
        "mode: search: from {} steps on, trials whose {} is not among the best 1/{} of their replicate are ended early. They are "
        "left out of F tests, which are not those of the whole plan then",
        search->min_steps, search->curve, search->reduction));
  }
  outlook.block_df = plan.spec().replicates - 1;
  const Design design = DesignOf(plan);
  LOUPE_ASSIGN_OR_RETURN(const std::vector<analysis::stats::ModelTerm> terms, TestableTerms(design, formula));
  double columns = 1;
  for (const analysis::stats::ModelTerm& term : terms) {
    double count = 1;
    for (const size_t factor : term) count *= static_cast<double>(design.cells.levels(factor)) - 1;
    columns += count;
  }
  if (static_cast<double>(plan.cell_count()) * columns * columns > kMaxFactorWork) {
    outlook.notes.push_back(
        fmt::format("the design matrix ({} cells × {} columns) is too large to check for confounding here",
                    plan.cell_count(), columns));
    return outlook;
  }
  const analysis::stats::ModelMatrix model(design.cells, terms);
  LOUPE_ASSIGN_OR_RETURN(const analysis::stats::ModelReduction reduction,
                         analysis::stats::ModelReduction::Create(model, design.cells));
  FillTerms(plan, design, model, reduction, outlook);
  return outlook;
}

}  // namespace loupe::coordinator::plan
