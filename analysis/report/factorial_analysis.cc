#include "analysis/report/factorial_analysis.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "analysis/stats/model_formula.h"
#include "analysis/stats/nesting.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

bool Has(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Those that every trial has, or all where a method's positions make the heat map.
std::vector<std::string> FactorsOfAll(const stats::DataTable& data, const std::vector<std::string>& names) {
  if (Has(names, "input") && Has(names, "output")) return names;
  std::vector<std::string> of_all;
  for (const stats::Factor& factor : data.factors) {
    if (factor.nested_in.empty() && Has(names, factor.name)) of_all.push_back(factor.name);
  }
  return of_all;
}

// Rows and columns of the heat map, or nothing to draw.
bool PickHeatMap(const std::vector<std::string>& factors, const AnalysisOptions& options, std::string& rows,
                 std::string& columns) {
  rows = options.heat_map_rows;
  columns = options.heat_map_columns;
  if (rows.empty() && columns.empty() && Has(factors, "input") && Has(factors, "output")) {
    rows = "input";
    columns = "output";
  }
  for (const std::string& factor : factors) {
    if (rows.empty() && factor != columns)
      rows = factor;
    else if (columns.empty() && factor != rows)
      columns = factor;
  }
  return !rows.empty() && !columns.empty();
}

stats::OneWayResult UndefinedOneWay(const std::string& factor) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  stats::OneWayResult result;
  result.factor = factor;
  result.between_mean_sq = result.within_mean_sq = result.f = result.p = result.r_squared = result.residual_sd = nan;
  return result;
}

RobustTests TestRobustly(const stats::DataTable& data, const std::string& factor, bool include_stopped_early,
                         const stats::RankTests& on_ranks) {
  RobustTests tests;
  const auto groups = stats::GroupValues(data, factor, include_stopped_early);
  if (!groups.ok()) return tests;
  if (const auto welch = stats::WelchAnova(*groups); welch.ok()) tests.welch = *welch;
  if (const auto ranks = on_ranks.KruskalWallis(factor, *groups); ranks.ok()) tests.kruskal_wallis = *ranks;
  return tests;
}

void NoteTerms(const stats::AnovaTable& anova, std::vector<std::string>& notes) {
  for (const stats::AnovaTerm& term : anova.terms) {
    if (!term.note.empty()) notes.push_back(fmt::format("{}: {}", term.term, term.note));
  }
}

}  // namespace

absl::StatusOr<FactorialAnalysis> AnalyseFactorial(stats::DataTable data, const AnalysisOptions& options) {
  FactorialAnalysis analysis;
  analysis.response = data.response_name;
  analysis.smaller_is_better = options.smaller_is_better;
  analysis.confidence = options.anova.confidence;
  analysis.data = std::move(data);
  const stats::DataTable& table = analysis.data;
  // Factor by factor only rows in which it exists are looked at.
  const std::optional<stats::DataTable> without_absent =
      stats::HasNestedFactors(table) ? std::optional<stats::DataTable>(stats::WithoutAbsentLevels(table))
                                     : std::nullopt;
  const stats::DataTable& observed = without_absent ? *without_absent : table;
  const bool stopped_early = options.anova.include_stopped_early;

  if (!options.anova.formula.empty()) {  // a formula that cannot be read is an error whatever the data
    LOUPE_RETURN_IF_ERROR(stats::ParseModelFormula(options.anova.formula, table).status());
  }
  absl::StatusOr<stats::AnovaTable> anova = stats::FitAnova(table, options.anova);
  if (anova.ok()) {
    analysis.anova = *std::move(anova);
    NoteTerms(analysis.anova, analysis.notes);
    for (const std::string& warning : analysis.anova.warnings) {
      if (!Has(analysis.notes, warning)) analysis.notes.push_back(warning);
    }
  } else if (options.allow_no_table) {
    const auto message = anova.status().message();
    analysis.problem.assign(message.data(), message.size());
  } else {
    return anova.status();
  }

  const stats::RankTests on_ranks(observed, stopped_early);
  for (const stats::Factor& factor : observed.factors) {
    if (factor.name == options.anova.block) continue;
    analysis.cell_factors.push_back(factor.name);
    absl::StatusOr<stats::OneWayResult> one_way = stats::OneWayAnova(observed, factor.name, stopped_early);
    analysis.one_way.push_back(one_way.ok() ? *std::move(one_way) : UndefinedOneWay(factor.name));
    analysis.robust.push_back(TestRobustly(observed, factor.name, stopped_early, on_ranks));
    LOUPE_ASSIGN_OR_RETURN(std::vector<stats::LevelMean> means,
                           stats::LevelMeans(observed, factor.name, analysis.confidence, stopped_early));
    analysis.means.push_back({factor.name, std::move(means)});
  }
  std::string rows, columns;
  if (PickHeatMap(FactorsOfAll(table, analysis.cell_factors), options, rows, columns)) {
    LOUPE_ASSIGN_OR_RETURN(analysis.heat_map,
                           stats::ComputeTwoWayMeans(observed, rows, columns, analysis.confidence, stopped_early));
    analysis.has_heat_map = true;
  }
  if (!analysis.cell_factors.empty()) {
    LOUPE_ASSIGN_OR_RETURN(analysis.cells,
                           stats::CellMeans(table, analysis.cell_factors, analysis.confidence, stopped_early));
    if (analysis.smaller_is_better) {
      std::stable_sort(analysis.cells.begin(), analysis.cells.end(),
                       [](const stats::CellMean& a, const stats::CellMean& b) { return a.mean.mean < b.mean.mean; });
    }
  }
  if (analysis.problem.empty()) {
    LOUPE_ASSIGN_OR_RETURN(ModelDetails details,
                           ComputeModelDetails(table, options.anova, analysis.cell_factors, analysis.cells,
                                               options.questions, analysis.smaller_is_better));
    analysis.details = std::make_shared<const ModelDetails>(std::move(details));
  }
  return analysis;
}

}  // namespace loupe::analysis::report
