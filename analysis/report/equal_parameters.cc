#include "analysis/report/equal_parameters.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "analysis/report/number_format.h"
#include "analysis/stats/distributions.h"
#include "analysis/stats/nan.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

// Of the rows whose cell has the levels `at` (averaged factors aside); NaN when none is known.
double ParametersAt(const stats::CellTable& cells, const std::vector<int32_t>& at,
                    const std::vector<double>& parameters) {
  double sum = 0, count = 0;
  for (size_t row = 0; row < std::min(cells.cell_of_row.size(), parameters.size()); ++row) {
    const int32_t cell = cells.cell_of_row[row];
    if (cell < 0 || !std::isfinite(parameters[row])) continue;
    bool is_there = true;
    for (size_t position = 0; position < at.size(); ++position) {
      if (at[position] == stats::ModelMatrix::kAveraged) continue;
      is_there = is_there && cells.codes[position][static_cast<size_t>(cell)] == at[position];
    }
    if (!is_there) continue;
    sum += parameters[row];
    ++count;
  }
  return count > 0 ? sum / count : stats::kNaN;
}

std::string SettingText(const std::vector<std::string>& factors, const std::vector<std::string>& levels) {
  std::string text;
  for (size_t i = 0; i < factors.size(); ++i)
    text += fmt::format("{}{} {}", i == 0 ? "" : ", ", factors[i], levels[i + 1]);
  return text;
}

// The mean of several means, each with the same weight.
stats::MarginalMean MeanOf(const stats::LinearModel& model, const std::string& method,
                           const std::vector<stats::MarginalMean>& settings, double confidence) {
  stats::MarginalMean mean = settings.front();
  mean.levels = {method};
  mean.n = 0;
  mean.combination.setZero();
  for (const stats::MarginalMean& setting : settings) {
    mean.n += setting.n;
    mean.combination += setting.combination / static_cast<double>(settings.size());
  }
  const stats::Estimate estimate = model.Evaluate(mean.combination);
  const double t = stats::TQuantile(0.5 * (1 + confidence), model.residual_df());
  mean.estimable = estimate.estimable;
  mean.reason.clear();
  for (const stats::MarginalMean& setting : settings) {
    if (!mean.estimable && mean.reason.empty()) mean.reason = setting.reason;
  }
  mean.mean = estimate.value;
  mean.deviation = estimate.deviation;
  mean.std_error = estimate.std_error;
  mean.low = estimate.value - t * estimate.std_error;
  mean.high = estimate.value + t * estimate.std_error;
  return mean;
}

std::string SizesText(std::vector<double> sizes) {
  constexpr size_t kShown = 8;
  if (sizes.empty()) return "its parameters are not known";
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  std::vector<std::string> texts;
  for (const double size : sizes) texts.push_back(FormatAmount(size));
  if (texts.size() > kShown) return fmt::format("its settings have {} to {}", texts.front(), texts.back());
  return fmt::format("its settings have {}", fmt::join(texts, ", "));
}

}  // namespace

absl::StatusOr<EqualParameters> CompareAtEqualParameters(const stats::LinearModel& model, const std::string& factor,
                                                         const std::vector<MethodSettings>& methods,
                                                         const std::vector<double>& parameters,
                                                         const ParameterBudget& budget, const std::string& baseline,
                                                         double confidence) {
  EqualParameters result;
  result.budget = budget;
  stats::MarginalMeans means{.factors = {factor}, .means = {}, .df = model.residual_df(), .confidence = confidence};
  std::vector<Eigen::RowVectorXd> combinations;
  for (const MethodSettings& method : methods) {
    std::vector<std::string> asked = {factor};
    asked.insert(asked.end(), method.own_factors.begin(), method.own_factors.end());
    LOUPE_ASSIGN_OR_RETURN(const stats::MarginalMeans settings,
                           stats::ComputeMarginalMeans(model, asked, stats::Combinations::kOccurring, confidence));
    MethodAtBudget at{.method = method.method, .settings = {}, .least = stats::kNaN, .most = stats::kNaN, .mean = {}};
    std::vector<stats::MarginalMean> chosen;
    std::vector<double> others;
    for (const stats::MarginalMean& setting : settings.means) {
      if (setting.levels.front() != method.method) continue;
      const double size = ParametersAt(model.cells(), setting.at, parameters);
      if (std::isnan(size)) continue;
      if (std::abs(size / budget.parameters - 1) > budget.tolerance) {
        others.push_back(size);
        continue;
      }
      at.settings.push_back(SettingText(method.own_factors, setting.levels));
      at.least = chosen.empty() ? size : std::min(at.least, size);
      at.most = chosen.empty() ? size : std::max(at.most, size);
      chosen.push_back(setting);
    }
    if (chosen.empty()) {
      result.sentences.push_back(fmt::format("{}: no setting within {:g} % of {} parameters ({}): not compared.",
                                             method.method, 100 * budget.tolerance, FormatAmount(budget.parameters),
                                             SizesText(others)));
      continue;
    }
    at.mean = MeanOf(model, method.method, chosen, confidence);
    combinations.push_back(at.mean.combination);
    means.means.push_back(at.mean);
    result.methods.push_back(std::move(at));
  }
  result.equal = {.df = 0, .nominal_df = 0, .f = stats::kNaN, .p = stats::kNaN};
  if (result.methods.size() < 2) return result;
  result.equal = stats::TestEqualMeans(model, combinations);
  const bool is_there = std::any_of(result.methods.begin(), result.methods.end(),
                                    [&](const MethodAtBudget& method) { return method.method == baseline; });
  result.baseline = is_there ? baseline : result.methods.front().method;
  LOUPE_ASSIGN_OR_RETURN(result.with_baseline, stats::CompareToBaseline(model, means, {result.baseline}));
  for (const stats::Comparison& pair : result.with_baseline) {
    if (pair.estimable) continue;
    result.sentences.push_back(
        fmt::format("{} cannot be compared with {} at that size: {}.", pair.first, pair.second, pair.reason));
  }
  return result;
}

}  // namespace loupe::analysis::report
