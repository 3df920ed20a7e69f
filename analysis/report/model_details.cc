#include "analysis/report/model_details.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "analysis/stats/distributions.h"
#include "analysis/stats/model_plan.h"
#include "analysis/stats/ordered_projection.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

constexpr size_t kMostLevelsCompared = 12;
// The forest is there to compare with other tools, not to wait for.
constexpr size_t kMostRowsForImportance = 5000;
constexpr int kTrees = 32;
constexpr int64_t kMostRowsToPermute = 200;
constexpr int64_t kPermutations = 4999;

std::string Text(const absl::Status& status) { return {status.message().data(), status.message().size()}; }

std::string Quoted(const std::string& name) { return fmt::format("`{}`", name); }

std::vector<FactorComparison> CompareLevels(const LinearModel& model, const std::vector<std::string>& factors,
                                            double confidence) {
  std::vector<FactorComparison> out;
  for (const std::string& factor : factors) {
    auto means = ComputeMarginalMeans(model, {factor}, GridWeights::kOccurringCells, confidence);
    if (!means.ok()) continue;  // not in the model
    FactorComparison comparison{factor, *std::move(means), {}};
    if (comparison.means.means.size() <= kMostLevelsCompared)
      comparison.pairs = CompareAllPairs(model, comparison.means);
    out.push_back(std::move(comparison));
  }
  return out;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

HalfNormal ComputeHalfNormal(const DataTable& data, const AnovaOptions& options,
                             const std::vector<std::string>& factors) {
  HalfNormal half;
  AnovaOptions wide = options;
  std::string sum;
  for (const std::string& factor : factors) sum += (sum.empty() ? "" : " + ") + Quoted(factor);
  wide.formula = factors.size() > 1 ? fmt::format("({})^2", sum) : sum;
  const auto planned = PlanCells(data, wide);
  if (!planned.ok()) {
    half.reason = Text(planned.status());
    return half;
  }
  half.formula = FormulaText(planned->plan.terms, data);
  const ModelMatrix matrix(planned->cells, planned->plan.terms);
  if (matrix.column_count() > 1500) {
    half.reason = "The two-way model has too many effects to plot.";
    return half;
  }
  const auto reduced = ReduceModel(matrix, planned->cells);
  if (!reduced.ok()) {
    half.reason = Text(reduced.status());
    return half;
  }
  OrderedProjection projection(reduced->r, reduced->qty);
  projection.Add(0, 1);
  for (size_t t = 0; t < matrix.terms().size(); ++t) {
    const TermColumns columns = matrix.columns()[t];
    const bool block = planned->plan.has_block && t == 0;
    for (Eigen::Index k = 0; k < columns.count; ++k) {
      const OrderedProjection::Gain gain = projection.Add(columns.first + k, 1);
      if (gain.rank == 0 || block) continue;
      half.effects.push_back(
          {TermName(matrix.terms()[t], data), std::sqrt(std::max(0.0, gain.sum_sq) / planned->cells.total_n), 0});
    }
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
    half.effects[i].quantile = NormalQuantile(0.5 + 0.5 * (static_cast<double>(i) + 0.5) / m);
    sizes.push_back(half.effects[i].size);
  }
  const double first = 1.5 * Median(sizes);
  std::vector<double> inert;
  for (const double size : sizes) {
    if (size < 2.5 * first) inert.push_back(size);
  }
  half.pseudo_std_error = inert.empty() ? first : 1.5 * Median(inert);
  half.margin_of_error = TQuantile(0.975, m / 3) * half.pseudo_std_error;
  return half;
}

}  // namespace

absl::StatusOr<ModelDetails> ComputeModelDetails(const DataTable& data, const AnovaOptions& options,
                                                 const std::vector<std::string>& cell_factors,
                                                 const std::vector<CellMean>& cells, const NamedCell& baseline,
                                                 bool smaller_is_better) {
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<LinearModel> model, LinearModel::Fit(data, options));
  ModelDetails details;
  details.comparisons = CompareLevels(*model, cell_factors, options.confidence);
  details.ranking = RankCells(data, options, *model, cell_factors, cells, smaller_is_better);
  if (!baseline.empty()) {
    auto contrasts = ContrastWithBaseline(data, options, *model, cell_factors, baseline, smaller_is_better);
    // A cell that does not exist is the reader's mistake; one without a result may come to have one.
    if (absl::IsInvalidArgument(contrasts.status())) return contrasts.status();
    details.has_baseline = contrasts.ok();
    if (contrasts.ok()) {
      details.baseline = *std::move(contrasts);
    } else {
      details.baseline_reason = Text(contrasts.status());
    }
  }
  auto assumptions = CheckAssumptions(data, options);
  if (assumptions.ok()) {
    details.assumptions = *std::move(assumptions);
  } else {
    details.assumptions_reason = Text(assumptions.status());
  }
  details.residuals = ComputeResiduals(*model);
  details.residual_sd = std::sqrt(model->residual_mean_sq());
  details.half_normal = ComputeHalfNormal(data, options, cell_factors);
  if (data.rows() > kMostRowsForImportance) {
    details.importance_reason = fmt::format("There are more than {} rows.", kMostRowsForImportance);
  } else {
    auto importance = ComputeImportance(
        data, {.factors = cell_factors, .trees = kTrees, .include_stopped_early = options.include_stopped_early});
    if (importance.ok()) {
      details.importance = *std::move(importance);
    } else {
      details.importance_reason = Text(importance.status());
    }
  }
  if (model->sample().used <= kMostRowsToPermute) {
    auto permutation = PermutationF(data, options, {.permutations = kPermutations});
    details.has_permutation = permutation.ok();
    if (permutation.ok()) details.permutation = *std::move(permutation);
  }
  if (!options.block.empty()) {
    auto mixed = FitMixedModel(data, options);
    if (mixed.ok()) {
      details.has_mixed_model = true;
      details.mixed_model = *std::move(mixed);
    }
  }
  return details;
}

}  // namespace loupe::analysis
