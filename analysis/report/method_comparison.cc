#include "analysis/report/method_comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "analysis/report/number_format.h"
#include "analysis/report/pareto_front.h"
#include "analysis/stats/nan.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

MethodCost CostOf(const CostColumn& column, const std::vector<int32_t>& cell_of_row, const std::vector<bool>& is_cell) {
  MethodCost cost{.n = 0, .mean = 0, .low = stats::kNaN, .high = stats::kNaN};
  for (size_t row = 0; row < std::min(cell_of_row.size(), column.values.size()); ++row) {
    const double value = column.values[row];
    if (cell_of_row[row] < 0 || !is_cell[static_cast<size_t>(cell_of_row[row])] || !std::isfinite(value)) continue;
    ++cost.n;
    cost.mean += (value - cost.mean) / static_cast<double>(cost.n);
    cost.low = cost.n == 1 ? value : std::min(cost.low, value);
    cost.high = cost.n == 1 ? value : std::max(cost.high, value);
  }
  if (cost.n == 0) cost.mean = stats::kNaN;
  return cost;
}

// The setting of a method's own factors whose mean is best; nothing when it has no factors of its own.
absl::Status FindBest(const stats::LinearModel& model, const std::string& factor, bool smaller_is_better,
                      double confidence, MethodSummary& summary) {
  summary.best.mean = summary.best.std_error = summary.best.low = summary.best.high = stats::kNaN;
  if (summary.own_factors.empty()) return absl::OkStatus();
  std::vector<std::string> asked = {factor};
  asked.insert(asked.end(), summary.own_factors.begin(), summary.own_factors.end());
  LOUPE_ASSIGN_OR_RETURN(const stats::MarginalMeans settings,
                         stats::ComputeMarginalMeans(model, asked, stats::Combinations::kOccurring, confidence));
  for (const stats::MarginalMean& setting : settings.means) {
    if (setting.levels.front() != summary.method) continue;
    ++summary.settings;
    if (!setting.estimable) continue;
    const bool better = std::isnan(summary.best.mean) ||
                        (smaller_is_better ? setting.mean < summary.best.mean : setting.mean > summary.best.mean);
    if (!better) continue;
    summary.best = setting;
    summary.best_levels.assign(setting.levels.begin() + 1, setting.levels.end());
  }
  return absl::OkStatus();
}

// Costs that no method has are left out; without any cost the front would be the best mean alone, and there is none.
void MarkParetoFront(const std::string& response, bool smaller_is_better, MethodComparison& result) {
  std::vector<std::vector<double>> rows;
  for (const MethodSummary& summary : result.methods) {
    const double mean = summary.mean.estimable ? summary.mean.mean : stats::kNaN;
    rows.push_back({smaller_is_better ? mean : -mean});
  }
  std::vector<std::string> titles;
  for (size_t cost = 0; cost < result.cost_names.size(); ++cost) {
    if (std::none_of(result.methods.begin(), result.methods.end(),
                     [cost](const MethodSummary& summary) { return summary.costs[cost].n > 0; }))
      continue;
    if (titles.empty()) result.pareto_of = {"mean"};
    titles.push_back(result.cost_titles[cost]);
    result.pareto_of.push_back(result.cost_names[cost]);
    for (size_t i = 0; i < rows.size(); ++i) rows[i].push_back(result.methods[i].costs[cost].mean);
  }
  if (titles.empty()) return;
  const std::vector<std::optional<bool>> front = ParetoFront(rows);
  std::vector<std::string> on, not_judged;
  for (size_t i = 0; i < front.size(); ++i) {
    result.methods[i].on_pareto_front = front[i];
    if (!front[i]) not_judged.push_back(result.methods[i].method);
    if (front[i].value_or(false)) on.push_back(result.methods[i].method);
  }
  const std::string of = fmt::format("mean {}, {}", response, fmt::join(titles, ", "));
  if (on.empty()) {
    result.sentences.push_back(fmt::format("No Pareto front of {}: no method has all of these numbers.", of));
    return;
  }
  std::string sentence = fmt::format(
      "{} Pareto front of {}: {}. No other method is at least as good in all of these and better in one, as the numbers "
      "stand, however wide their intervals.",
      kParetoMark, of, fmt::join(on, ", "));
  if (!not_judged.empty()) {
    sentence += fmt::format(" Not judged, as one of these numbers is missing: {}.", fmt::join(not_judged, ", "));
  }
  result.sentences.push_back(std::move(sentence));
}

void SayWhatIsNotCompared(const stats::LinearModel& model, size_t factor, MethodComparison& result) {
  std::set<std::string> with_results;
  std::vector<std::string> alone, without;
  for (const MethodSummary& summary : result.methods) {
    with_results.insert(summary.method);
    if (summary.own_factors.empty()) alone.push_back(summary.method);
  }
  for (const std::string& level : model.data().factors[factor].levels) {
    if (!with_results.contains(level)) without.push_back(level);
  }
  if (!without.empty()) {
    result.sentences.push_back(fmt::format("No result so far of {}: not compared.", fmt::join(without, ", ")));
  }
  for (const stats::Comparison& pair : result.with_baseline) {
    if (pair.estimable) continue;
    result.sentences.push_back(fmt::format("{} cannot be compared with {}: {}.", pair.first, pair.second, pair.reason));
  }
  result.sentences.push_back(
      "A method's mean is that of its settings that were run, each with the same weight: settings that nobody would "
      "choose count too. A best setting is chosen by these very trials, so its mean is flattered, the more so the more "
      "settings it was chosen from.");
  if (!alone.empty() && alone.size() < result.methods.size()) {
    result.sentences.push_back(
        fmt::format("{} {} one setting here; how {} would do with others, this sweep cannot say.",
                    fmt::join(alone, ", "), alone.size() == 1 ? "has" : "have", alone.size() == 1 ? "it" : "they"));
  }
  result.sentences.push_back(
      "Levels of one method's own factors are compared within that method alone; nothing is said of a setting in "
      "methods that do not have it.");
}

absl::Status CompareAtBudget(const stats::LinearModel& model, const MethodQuestion& question, double confidence,
                             MethodComparison& result) {
  const ParameterBudget& budget = question.budget;
  if (budget.parameters == 0) return absl::OkStatus();
  if (!(budget.parameters > 0) || !std::isfinite(budget.parameters) || !(budget.tolerance >= 0) ||
      budget.tolerance > 1) {
    return absl::InvalidArgumentError(
        fmt::format("equal parameters: {:g} within {:g}; expected a number above 0, and a share from 0 to 1",
                    budget.parameters, budget.tolerance));
  }
  std::vector<MethodSettings> methods;
  for (const MethodSummary& summary : result.methods) methods.push_back({summary.method, summary.own_factors});
  const auto parameters = std::find_if(question.costs.begin(), question.costs.end(),
                                       [](const CostColumn& cost) { return cost.name == kParametersCost; });
  LOUPE_ASSIGN_OR_RETURN(
      result.at_equal_parameters,
      CompareAtEqualParameters(model, question.factor, methods,
                               parameters == question.costs.end() ? std::vector<double>() : parameters->values, budget,
                               result.baseline, confidence));
  return absl::OkStatus();
}

}  // namespace

std::string FormatCost(double value, CostUnit unit) {
  switch (unit) {
    case CostUnit::kNumber:
      return FormatNumber(value, 3);
    case CostUnit::kCount:
      return FormatAmount(value);
    case CostUnit::kBytes:
      return FormatSize(value);
  }
  return "";
}

absl::StatusOr<MethodComparison> CompareMethods(const stats::LinearModel& model, const MethodQuestion& question,
                                                bool smaller_is_better, double confidence) {
  MethodComparison result;
  result.factor = question.factor;
  result.confidence = confidence;
  result.df = model.residual_df();
  for (const CostColumn& cost : question.costs) {
    result.cost_names.push_back(cost.name);
    result.cost_titles.push_back(cost.title);
    result.cost_units.push_back(cost.unit);
  }
  LOUPE_ASSIGN_OR_RETURN(const size_t factor, model.data().FactorIndex(question.factor));
  LOUPE_ASSIGN_OR_RETURN(const stats::MarginalMeans means,
                         stats::ComputeMarginalMeans(model, {question.factor}, stats::Combinations::kAll, confidence));
  const stats::CellTable& cells = model.cells();
  const size_t position = cells.PositionOf(factor);
  std::vector<Eigen::RowVectorXd> combinations;
  for (const stats::MarginalMean& mean : means.means) {
    MethodSummary& summary = result.methods.emplace_back();
    summary.method = mean.levels.front();
    summary.mean = mean;
    combinations.push_back(mean.combination);
    std::vector<bool> is_cell(cells.cells());
    for (size_t cell = 0; cell < cells.cells(); ++cell) {
      is_cell[cell] = cells.codes[position][cell] == mean.at[position];
      if (is_cell[cell]) summary.trials += static_cast<int64_t>(cells.n[cell]);
    }
    for (size_t other = 0; other < cells.factors.size(); ++other) {
      const stats::CellNesting nesting = cells.NestingOf(other);
      if (nesting.nested && nesting.outer == position && nesting.outer_level == mean.at[position])
        summary.own_factors.push_back(model.data().factors[cells.factors[other]].name);
    }
    LOUPE_RETURN_IF_ERROR(FindBest(model, question.factor, smaller_is_better, confidence, summary));
    if (summary.own_factors.empty()) summary.settings = 1;
    for (const CostColumn& cost : question.costs) summary.costs.push_back(CostOf(cost, cells.cell_of_row, is_cell));
  }
  result.equal = stats::TestEqualMeans(model, combinations);
  result.baseline = question.baseline.empty() ? result.methods.front().method : question.baseline;
  auto compared = stats::CompareToBaseline(model, means, {result.baseline});
  if (!compared.ok()) {
    return absl::InvalidArgumentError(fmt::format("baseline method: {}", std::string(compared.status().message())));
  }
  result.with_baseline = *std::move(compared);
  MarkParetoFront(model.data().response_name, smaller_is_better, result);
  SayWhatIsNotCompared(model, factor, result);
  LOUPE_RETURN_IF_ERROR(CompareAtBudget(model, question, confidence, result));
  return result;
}

}  // namespace loupe::analysis::report
