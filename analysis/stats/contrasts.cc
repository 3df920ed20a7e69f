#include "analysis/stats/contrasts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "Eigen/LU"
#include "Eigen/QR"
#include "analysis/stats/contrast_formula.h"
#include "analysis/stats/distributions.h"
#include "analysis/stats/estimability_reasons.h"
#include "analysis/stats/factor_question.h"
#include "analysis/stats/level_names.h"
#include "analysis/stats/nan.h"
#include "analysis/stats/p_adjust.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr size_t kMostPairs = 2000, kMostPairsInAll = 20000;

absl::StatusOr<std::vector<int32_t>> PointOf(const LinearModel& model,
                                             const std::map<std::string, std::string>& levels) {
  const CellTable& cells = model.cells();
  std::vector<int32_t> point(cells.factors.size(), ModelMatrix::kAveraged);
  for (const auto& [name, level] : levels) {
    LOUPE_ASSIGN_OR_RETURN(const size_t factor, model.data().FactorIndex(name));
    const auto found = std::find(cells.factors.begin(), cells.factors.end(), factor);
    if (found == cells.factors.end()) {
      return absl::InvalidArgumentError(fmt::format("factor '{}' is not in the model {}", name, model.formula()));
    }
    const auto position = static_cast<size_t>(found - cells.factors.begin());
    std::vector<std::string> known;
    for (size_t i = 0; i < cells.levels(position); ++i)
      known.push_back(LevelName(model, position, static_cast<int32_t>(i)));
    const std::optional<size_t> index = FindLevel(known, level);
    if (!index) {
      return absl::InvalidArgumentError(fmt::format("'{}' is not a level of '{}' in the rows used; there are {}", level,
                                                    name, fmt::join(known, ", ")));
    }
    point[position] = static_cast<int32_t>(*index);
  }
  return point;
}

std::string NamesOf(const std::map<std::string, std::string>& levels) {
  std::string text;
  for (const auto& [name, level] : levels) text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", name, level);
  return text;
}

absl::StatusOr<Contrast> Evaluate(const LinearModel& model, const std::string& formula, double confidence,
                                  EstimabilityReasons& reasons) {
  LOUPE_ASSIGN_OR_RETURN(const WeightedMeans means, ParseContrast(formula));
  std::vector<std::vector<int32_t>> points;
  std::vector<Eigen::RowVectorXd> combinations;
  VectorXd weights(static_cast<Index>(means.size()));
  for (const auto& [levels, weight] : means) {
    auto point = PointOf(model, levels);
    if (!point.ok()) {
      return absl::InvalidArgumentError(Annotate(point.status(), fmt::format("contrast '{}'", formula)).message());
    }
    weights(static_cast<Index>(points.size())) = weight;
    std::optional<Eigen::RowVectorXd> row = model.MeanRow(*point);
    if (!row) {
      return absl::InvalidArgumentError(
          fmt::format("contrast '{}': no trial can have {} together, since one of them exists at another level only",
                      formula, NamesOf(levels)));
    }
    combinations.push_back(*std::move(row));
    points.push_back(*std::move(point));
  }
  // A contrast's weights add up to 0: what rounding leaves of that (thirds) must not bring the mean's own level in.
  const bool adds_up_to_0 = std::abs(weights.sum()) <= 1e-12 * weights.cwiseAbs().sum();
  if (adds_up_to_0) weights.array() -= weights.mean();
  const Estimate estimate = model.Combine(model.Decompose(combinations), weights);
  Contrast contrast{.formula = formula,
                    .estimable = estimate.estimable,
                    .reason = "",
                    .estimate = adds_up_to_0 ? estimate.deviation : estimate.value,
                    .std_error = estimate.std_error,
                    .t = kNaN,
                    .p = kNaN,
                    .p_holm = kNaN,
                    .low = kNaN,
                    .high = kNaN};
  if (!estimate.estimable) {
    contrast.reason = reasons.OfSum(points);
  } else if (estimate.std_error > 0) {
    const double t = TQuantile(0.5 * (1 + confidence), model.residual_df());
    contrast.t = contrast.estimate / contrast.std_error;
    contrast.p = TTwoSided(contrast.t, model.residual_df());
    contrast.low = contrast.estimate - t * contrast.std_error;
    contrast.high = contrast.estimate + t * contrast.std_error;
  }
  return contrast;
}

}  // namespace

JointTest TestEqualMeans(const LinearModel& model, const std::vector<Eigen::RowVectorXd>& combinations) {
  const CombinationParts parts = model.Decompose(combinations);
  const auto k = static_cast<Index>(combinations.size());
  JointTest test{.df = 0, .nominal_df = static_cast<double>(k - 1), .f = kNaN, .p = kNaN};
  if (k < 2) return test;
  // Differences from the first, then those sums of them that lie in the row space: the null space of their gaps.
  MatrixXd differences(k, k - 1);
  differences.topRows(1).setConstant(-1.0);
  differences.bottomRows(k - 1).setIdentity();
  MatrixXd estimable = differences;
  if (parts.gap.rows() > 0) {
    Eigen::FullPivLU<MatrixXd> gap(parts.gap * differences);
    const double scale = parts.length.maxCoeff();
    if ((parts.gap * differences).lpNorm<Eigen::Infinity>() > 1e-7 * scale) {
      gap.setThreshold(1e-7);
      if (gap.dimensionOfKernel() == 0) return test;
      estimable = differences * gap.kernel();
    }
  }
  // ‖Qᵀ‑part‖² of the values in the space that the whitened rows span.
  Eigen::ColPivHouseholderQR<MatrixXd> qr(parts.white * estimable);
  qr.setThreshold(1e-9);
  const Index rank = qr.rank();
  test.df = static_cast<double>(rank);
  if (rank == 0 || !(model.residual_sd() > 0)) return test;
  const VectorXd values = qr.colsPermutation().transpose() * (estimable.transpose() * parts.deviation);
  const MatrixXd r = qr.matrixR().topLeftCorner(rank, rank);
  const VectorXd part = r.transpose().triangularView<Eigen::Lower>().solve(values.head(rank)) / model.residual_sd();
  test.f = part.squaredNorm() / test.df;
  test.p = FUpperTail(test.f, test.df, model.residual_df());
  return test;
}

absl::StatusOr<SimpleEffects> ComputeSimpleEffects(const LinearModel& model, std::string_view question,
                                                   double confidence) {
  SimpleEffects result;
  LOUPE_ASSIGN_OR_RETURN(const FactorQuestion asked, ParseFactorQuestion("simple effects", question));
  result.factors = asked.factors;
  result.within = asked.within;
  std::vector<std::string> all = asked.within;
  all.insert(all.end(), asked.factors.begin(), asked.factors.end());
  auto means = ComputeMarginalMeans(model, all, Combinations::kAll, confidence);
  if (!means.ok()) {
    return absl::InvalidArgumentError(Annotate(means.status(), fmt::format("simple effects '{}'", question)).message());
  }
  const auto held = static_cast<std::ptrdiff_t>(result.within.size());
  size_t pairs_in_all = 0;
  for (size_t begin = 0; begin < means->means.size();) {
    SimpleEffect effect;
    const MarginalMean& first = means->means[begin];
    effect.within.assign(first.levels.begin(), first.levels.begin() + held);
    effect.means = {.factors = result.factors, .means = {}, .df = means->df, .confidence = confidence};
    std::vector<Eigen::RowVectorXd> combinations;
    bool occurs = false;
    size_t end = begin;
    for (; end < means->means.size() &&
           std::equal(effect.within.begin(), effect.within.end(), means->means[end].levels.begin());
         ++end) {
      MarginalMean mean = means->means[end];
      occurs = occurs || mean.n > 0;
      mean.levels.erase(mean.levels.begin(), mean.levels.begin() + held);
      combinations.push_back(mean.combination);
      effect.means.means.push_back(std::move(mean));
    }
    begin = end;
    if (!occurs) continue;
    const size_t count = combinations.size() * (combinations.size() - 1) / 2;
    pairs_in_all += count;
    if (count > kMostPairs || pairs_in_all > kMostPairsInAll) {
      return absl::InvalidArgumentError(fmt::format(
          "simple effects '{}': too many pairs ({} at one combination; at most {}, and {} in all); ask for single contrasts",
          question, count, kMostPairs, kMostPairsInAll));
    }
    effect.test = TestEqualMeans(model, combinations);
    effect.pairs = CompareAllPairs(model, effect.means);
    result.effects.push_back(std::move(effect));
  }
  return result;
}

absl::StatusOr<std::vector<Contrast>> EvaluateContrasts(const LinearModel& model,
                                                        const std::vector<std::string>& formulas, double confidence) {
  std::vector<Contrast> contrasts;
  EstimabilityReasons reasons(model);
  std::vector<double> p;
  for (const std::string& formula : formulas) {
    LOUPE_ASSIGN_OR_RETURN(Contrast contrast, Evaluate(model, formula, confidence, reasons));
    p.push_back(contrast.p);
    contrasts.push_back(std::move(contrast));
  }
  const std::vector<double> holm = AdjustHolm(p);
  for (size_t i = 0; i < contrasts.size(); ++i) contrasts[i].p_holm = holm[i];
  return contrasts;
}

}  // namespace loupe::analysis::stats
