#include "analysis/stats/anova.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "analysis/stats/cell_table.h"
#include "analysis/stats/distributions.h"
#include "analysis/stats/estimability.h"
#include "analysis/stats/model_formula.h"
#include "analysis/stats/model_matrix.h"
#include "analysis/stats/model_plan.h"
#include "analysis/stats/model_reduction.h"
#include "analysis/stats/nan.h"
#include "analysis/stats/tested_after.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;

bool IsInsideAnother(const std::vector<ModelTerm>& terms, size_t t) {
  for (size_t u = 0; u < terms.size(); ++u) {
    if (u != t && IsContained(terms[t], terms[u])) return true;
  }
  return false;
}

AnovaTerm TestTerm(const DataTable& data, const CellTable& cells, const ModelMatrix& model,
                   const ModelReduction& reduction, size_t t, SumOfSquares type, double& sum_sq) {
  AnovaTerm out;
  out.term = TermName(model.terms()[t], data);
  for (const size_t factor : model.terms()[t]) {
    if (!data.factors[factor].nested_in.empty() && cells.NestingOf(cells.PositionOf(factor)).nested)
      out.within = data.factors[factor].nested_level;
  }
  const TermColumns columns = model.columns()[t];
  out.nominal_df = static_cast<double>(columns.nominal_df);
  const std::vector<size_t> after = TestedAfter(model.terms(), t, type);
  const OrderedProjection::Gain gain = reduction.Test(t, after);
  out.df = static_cast<double>(gain.rank);
  sum_sq = gain.sum_sq;
  if (gain.rank >= columns.nominal_df) return out;

  if (type == SumOfSquares::kType3 && IsInsideAnother(model.terms(), t)) {
    out.df = 0;
    out.estimable = false;
    out.note = fmt::format(
        "Not estimable as Type III: with empty or aliased cells the equally weighted means of {} do not "
        "all exist, and a number would depend on the coding. Use Type II.",
        out.term);
    return out;
  }
  const Estimability lost = ExplainLostDegrees(data, cells, model, reduction, t, after, gain.rank);
  for (const size_t u : lost.partners) out.aliased_with.push_back(TermName(model.terms()[u], data));
  out.note = lost.note;
  out.estimable = out.df > 0;
  return out;
}

// `sum_sq` of the term, the residual and the total in unit².
void Finish(const AnovaTable& table, const CellTable& cells, double sum_sq, double residual_sum_sq, double confidence,
            AnovaTerm& term) {
  if (!term.estimable) {
    term.sum_sq = 0;
    term.mean_sq = term.f = term.p = kNaN;
    term.effect = ComputeEffectSize(FTest{}, confidence);
    return;
  }
  term.sum_sq = cells.unit.UpSquared(sum_sq);
  term.mean_sq = cells.unit.UpSquared(sum_sq / term.df);
  term.f = residual_sum_sq > 0 ? sum_sq / term.df / (residual_sum_sq / table.residual.df) : kNaN;
  term.p = FUpperTail(term.f, term.df, table.residual.df);
  term.effect = ComputeEffectSize({.df = term.df,
                                   .sum_sq = sum_sq,
                                   .residual_df = table.residual.df,
                                   .residual_sum_sq = residual_sum_sq,
                                   .total_sum_sq = cells.total_sum_sq,
                                   .n = table.total_df + 1},
                                  confidence);
}

// Sums of squares that no double holds, said once.
void WarnOfWideNumbers(AnovaTable& table) {
  bool fits =
      table.total_sum_sq.FitsDouble() && table.residual.sum_sq.FitsDouble() && table.residual.mean_sq.FitsDouble();
  for (const AnovaTerm& term : table.terms) fits = fits && term.sum_sq.FitsDouble() && term.mean_sq.FitsDouble();
  if (fits) return;
  table.warnings.push_back(
      "Some sums of squares of this response are outside what a double holds (2.2e-308 to 1.8e308): they are written out in "
      "decimal, and a program that reads them as doubles gets 0 or infinity. F, p, effect sizes and intervals are not affected.");
}

void CountCells(const CellTable& cells, const ModelPlan& plan, AnovaTable& table) {
  const size_t block = plan.has_block ? plan.terms.front()[0] : std::numeric_limits<size_t>::max();
  std::set<std::vector<int32_t>> seen;
  double possible = 1;
  std::map<int32_t, double> settings;  // per level that has factors of its own
  size_t outer_levels = 0;
  for (size_t i = 0; i < cells.factors.size(); ++i) {
    if (cells.factors[i] == block) continue;
    const CellNesting nesting = cells.NestingOf(i);
    if (nesting.nested) {
      outer_levels = cells.levels(nesting.outer);
      settings.try_emplace(nesting.outer_level, 1.0).first->second *= static_cast<double>(cells.own_levels(i));
    } else {
      possible *= static_cast<double>(cells.levels(i));
    }
  }
  if (outer_levels > 0) {  // each other level has one setting
    double all = static_cast<double>(outer_levels - settings.size());
    for (const auto& [level, count] : settings) all += count;
    possible *= all / static_cast<double>(outer_levels);
  }
  for (size_t cell = 0; cell < cells.cells(); ++cell) {
    std::vector<int32_t> key;
    for (size_t i = 0; i < cells.factors.size(); ++i) {
      if (cells.factors[i] != block) key.push_back(cells.codes[i][cell]);
    }
    seen.insert(std::move(key));
  }
  table.cells_observed = static_cast<int64_t>(seen.size());
  table.cells_possible = possible;
}

}  // namespace

absl::StatusOr<AnovaTable> FitAnova(const DataTable& data, const AnovaOptions& options) {
  AnovaTable table;
  LOUPE_ASSIGN_OR_RETURN(const PlannedCells planned, PlanCells(data, options));
  const ModelPlan& plan = planned.plan;
  const CellTable& cells = planned.cells;
  table.warnings = planned.warnings;
  const ModelMatrix model(cells, plan.terms);
  LOUPE_ASSIGN_OR_RETURN(const ModelReduction reduction, ModelReduction::Create(model, cells));

  table.response = data.response_name;
  table.block = plan.has_block ? options.block : "";
  table.formula = FormulaText({plan.terms.begin() + (plan.has_block ? 1 : 0), plan.terms.end()}, data);
  table.ss_type = options.ss_type;
  table.sample = cells.sample;
  table.grand_mean = data.response_origin + cells.centre();
  table.total_df = cells.total_n - 1;
  table.total_sum_sq = cells.unit.UpSquared(cells.total_sum_sq);
  table.pure_error_df = cells.pure_error_df;
  table.pure_error_sum_sq = cells.unit.UpSquared(cells.pure_error_sum_sq);
  table.residual.df = cells.total_n - static_cast<double>(reduction.rank());
  if (table.residual.df < 1) return NoResidualError(data, planned, reduction.rank());
  const double residual_sum_sq = cells.WithoutRounding(reduction.lack_of_fit_sum_sq() + cells.pure_error_sum_sq);
  if (residual_sum_sq == 0) {
    table.warnings.push_back(
        "The model reproduces every response exactly, so there is no error to test against and no F: "
        "check that the response is not computed from the factors.");
  }
  table.residual.sum_sq = cells.unit.UpSquared(residual_sum_sq);
  table.residual.mean_sq = cells.unit.UpSquared(residual_sum_sq / table.residual.df);
  table.r_squared = 1.0 - residual_sum_sq / cells.total_sum_sq;
  CountCells(cells, plan, table);

  for (size_t t = 0; t < plan.terms.size(); ++t) {
    double sum_sq = 0;
    AnovaTerm term = TestTerm(data, cells, model, reduction, t, options.ss_type, sum_sq);
    term.is_block = plan.has_block && t == 0;
    Finish(table, cells, sum_sq, residual_sum_sq, options.confidence, term);
    table.terms.push_back(std::move(term));
  }
  WarnOfWideNumbers(table);
  const SampleAccount& sample = table.sample;
  if (sample.used < sample.rows || sample.stopped_early_included > 0) table.warnings.push_back(sample.Sentence());
  return table;
}

}  // namespace loupe::analysis::stats
