#include "analysis/report/model_details.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "analysis/stats/distributions.h"
#include "analysis/stats/model_plan.h"
#include "analysis/stats/model_reduction.h"
#include "analysis/stats/nesting.h"
#include "common/median.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

constexpr size_t kMostLevelsCompared = 40;  // 780 differences
// The forest is there to compare with other tools, not to wait for.
constexpr size_t kMostRowsForImportance = 5000;
constexpr int kTrees = 32;
constexpr int64_t kMostRowsToPermute = 200;
constexpr int64_t kPermutations = 4999;

std::string Text(const absl::Status& status) { return {status.message().data(), status.message().size()}; }

std::string Quoted(const std::string& name) { return fmt::format("`{}`", name); }

std::vector<FactorComparison> CompareLevels(const stats::LinearModel& model, const std::vector<std::string>& factors,
                                            double confidence) {
  std::vector<FactorComparison> out;
  for (const std::string& factor : factors) {
    auto means = stats::ComputeMarginalMeans(model, {factor}, stats::Combinations::kAll, confidence);
    if (!means.ok()) continue;  // not in the model
    FactorComparison& comparison = out.emplace_back(FactorComparison{factor, *std::move(means), "", {}});
    const size_t levels = comparison.means.means.size();
    if (levels <= kMostLevelsCompared) {
      comparison.pairs = stats::CompareAllPairs(model, comparison.means);
    } else {
      comparison.pairs_reason = fmt::format(
          "{} has {} levels, so {} pairs; up to {} levels all are compared. Ask for those of "
          "interest as contrasts.",
          factor, levels, levels * (levels - 1) / 2, kMostLevelsCompared);
    }
  }
  return out;
}

// "a | b" and "b | a" for each interaction of two factors in the model that is small enough to be read.
std::vector<std::string> InteractionsOf(const stats::LinearModel& model) {
  constexpr size_t kMostLevelsWithin = 12;
  const stats::CellTable& cells = model.cells();
  std::vector<std::string> questions;
  const auto levels = [&](size_t factor) {
    return cells.levels(
        static_cast<size_t>(std::find(cells.factors.begin(), cells.factors.end(), factor) - cells.factors.begin()));
  };
  for (const stats::ModelTerm& term : model.matrix().terms()) {
    if (term.size() != 2 || levels(term[0]) > kMostLevelsWithin || levels(term[1]) > kMostLevelsWithin) continue;
    const std::string first = Quoted(model.data().factors[term[0]].name),
                      second = Quoted(model.data().factors[term[1]].name);
    questions.push_back(fmt::format("{} | {}", first, second));
    questions.push_back(fmt::format("{} | {}", second, first));
  }
  if (questions.size() > 12) questions.clear();  // six interactions: more is asked for by name
  return questions;
}

bool HasFactor(const stats::LinearModel& model, const std::string& name) {
  const auto factor = model.data().FactorIndex(name);
  if (name.empty() || !factor.ok()) return false;
  const std::vector<size_t>& used = model.cells().factors;
  return std::find(used.begin(), used.end(), *factor) != used.end();
}

HalfNormal ComputeHalfNormal(const stats::DataTable& data, const stats::AnovaOptions& options,
                             const std::vector<std::string>& factors) {
  HalfNormal half;
  stats::AnovaOptions wide = options;
  std::string sum;
  for (const std::string& factor : factors) sum += (sum.empty() ? "" : " + ") + Quoted(factor);
  wide.formula = factors.size() > 1 ? fmt::format("({})^2", sum) : sum;
  const auto planned = stats::PlanCells(data, wide);
  if (!planned.ok()) {
    half.reason = Text(planned.status());
    return half;
  }
  half.formula = stats::FormulaText(planned->plan.terms, data);
  const stats::ModelMatrix matrix(planned->cells, planned->plan.terms);
  const Eigen::Index block_columns = planned->plan.has_block ? matrix.columns().front().count : 0;
  if (matrix.column_count() - block_columns > 1500) {
    half.reason = "The two-way model has too many effects to plot.";
    return half;
  }
  const auto reduction = stats::ModelReduction::Create(matrix, planned->cells);
  if (!reduction.ok()) {
    half.reason = Text(reduction.status());
    return half;
  }
  for (const auto& [term, sum_sq] : reduction->SingleColumns(planned->plan.has_block ? 1 : 0)) {
    const double size = std::sqrt(std::max(0.0, sum_sq) / planned->cells.total_n);
    half.effects.push_back({stats::TermName(matrix.terms()[term], data), planned->cells.unit.Up(size), 0});
  }
  if (half.effects.size() < 5) {
    half.reason = "There are too few effects for a half-normal plot.";
    half.effects.clear();
    return half;
  }
  std::stable_sort(half.effects.begin(), half.effects.end(),
                   [](const HalfNormalEffect& a, const HalfNormalEffect& b) { return a.size < b.size; });
  const double m = static_cast<double>(half.effects.size());
  std::vector<double> sizes;
  for (size_t i = 0; i < half.effects.size(); ++i) {
    half.effects[i].quantile = stats::NormalQuantile(0.5 + 0.5 * (static_cast<double>(i) + 0.5) / m);
    sizes.push_back(half.effects[i].size);
  }
  const double first = 1.5 * Median(sizes);
  std::vector<double> inert;
  for (const double size : sizes) {
    if (size < 2.5 * first) inert.push_back(size);
  }
  half.pseudo_std_error = inert.empty() ? first : 1.5 * Median(inert);
  half.margin_of_error = stats::TQuantile(0.975, m / 3) * half.pseudo_std_error;
  return half;
}

}  // namespace

absl::StatusOr<ModelDetails> ComputeModelDetails(const stats::DataTable& data, const stats::AnovaOptions& options,
                                                 const std::vector<std::string>& cell_factors,
                                                 const std::vector<stats::CellMean>& cells,
                                                 const DetailQuestions& questions, bool smaller_is_better) {
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<stats::LinearModel> model, stats::LinearModel::Fit(data, options));
  ModelDetails details;
  details.comparisons = CompareLevels(*model, cell_factors, options.confidence);
  details.ranking = RankCells(data, options, *model, cell_factors, cells, smaller_is_better);
  std::vector<std::string> asked = InteractionsOf(*model);
  asked.insert(asked.end(), questions.simple_effects.begin(), questions.simple_effects.end());
  for (const std::string& question : asked) {
    LOUPE_ASSIGN_OR_RETURN(stats::SimpleEffects effects,
                           stats::ComputeSimpleEffects(*model, question, options.confidence));
    const bool known = std::any_of(details.simple_effects.begin(), details.simple_effects.end(),
                                   [&](const stats::SimpleEffects& other) {
                                     return other.factors == effects.factors && other.within == effects.within;
                                   });
    if (!known) details.simple_effects.push_back(std::move(effects));
  }
  LOUPE_ASSIGN_OR_RETURN(details.contrasts, stats::EvaluateContrasts(*model, questions.contrasts, options.confidence));
  if (HasFactor(*model, questions.methods.factor)) {
    LOUPE_ASSIGN_OR_RETURN(details.methods,
                           CompareMethods(*model, questions.methods, smaller_is_better, options.confidence));
  }
  if (!questions.baseline.empty()) {
    auto contrasts = ContrastWithBaseline(data, options, *model, cell_factors, questions.baseline, smaller_is_better);
    // A cell that does not exist is the reader's mistake; one without a result may come to have one.
    if (absl::IsInvalidArgument(contrasts.status())) return contrasts.status();
    details.has_baseline = contrasts.ok();
    if (contrasts.ok()) {
      details.baseline = *std::move(contrasts);
    } else {
      details.baseline_reason = Text(contrasts.status());
    }
  }
  auto assumptions = stats::CheckAssumptions(data, options);
  if (assumptions.ok()) {
    details.assumptions = *std::move(assumptions);
  } else {
    details.assumptions_reason = Text(assumptions.status());
  }
  details.residuals = stats::ComputeResiduals(*model);
  details.residual_sd = model->residual_sd();
  details.half_normal = ComputeHalfNormal(data, options, cell_factors);
  if (stats::HasNestedFactors(data)) {
    details.importance_reason =
        "Factors of single methods have no importance over all combinations: most combinations do not exist.";
  } else if (data.rows() > kMostRowsForImportance) {
    details.importance_reason = fmt::format("There are more than {} rows.", kMostRowsForImportance);
  } else {
    auto importance = stats::ComputeImportance(
        data, {.factors = cell_factors, .trees = kTrees, .include_stopped_early = options.include_stopped_early});
    if (importance.ok()) {
      details.importance = *std::move(importance);
    } else {
      details.importance_reason = Text(importance.status());
    }
  }
  if (model->sample().used <= kMostRowsToPermute) {
    auto permutation = stats::PermutationF(data, options, {.permutations = kPermutations});
    details.has_permutation = permutation.ok();
    if (permutation.ok()) details.permutation = *std::move(permutation);
  }
  if (!options.block.empty()) {
    auto mixed = stats::FitMixedModel(data, options);
    if (mixed.ok()) {
      details.has_mixed_model = true;
      details.mixed_model = *std::move(mixed);
    }
  }
  return details;
}

}  // namespace loupe::analysis::report
