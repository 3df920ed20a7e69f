#include "analysis/stats/comparisons.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "analysis/stats/distributions.h"
#include "analysis/stats/dunnett.h"
#include "analysis/stats/p_adjust.h"
#include "analysis/stats/studentized_range.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string Name(const MarginalMean& mean) { return fmt::format("{}", fmt::join(mean.levels, ", ")); }

Comparison Compare(const LinearModel& model, const MarginalMean& a, const MarginalMean& b) {
  Comparison result{.first = Name(a), .second = Name(b), .estimable = false, .difference = kNaN, .std_error = kNaN,
                    .t = kNaN, .p = kNaN, .p_tukey = kNaN, .p_dunnett = kNaN, .p_holm = kNaN,
                    .p_benjamini_hochberg = kNaN, .low = kNaN, .high = kNaN};
  const Estimate estimate = model.Evaluate(a.combination - b.combination);
  result.estimable = estimate.estimable && estimate.std_error > 0;
  if (!result.estimable) return result;
  result.difference = estimate.value;
  result.std_error = estimate.std_error;
  result.t = estimate.value / estimate.std_error;
  result.p = TTwoSided(result.t, model.residual_df());
  return result;
}

void AdjustForCount(std::vector<Comparison>& comparisons) {
  std::vector<double> p;
  for (const Comparison& comparison : comparisons) p.push_back(comparison.p);
  const std::vector<double> holm = AdjustHolm(p);
  const std::vector<double> bh = AdjustBenjaminiHochberg(p);
  for (size_t i = 0; i < comparisons.size(); ++i) {
    comparisons[i].p_holm = holm[i];
    comparisons[i].p_benjamini_hochberg = bh[i];
  }
}

void SetInterval(Comparison& comparison, double critical) {
  comparison.low = comparison.difference - critical * comparison.std_error;
  comparison.high = comparison.difference + critical * comparison.std_error;
}

// λ_i with corr(m_i − m_0, m_j − m_0) = λ_i λ_j for all i ≠ j, if there are such: the means are then as good as
// independent. `with` are the combinations of m_i − m_0.
std::optional<std::vector<double>> ProductCorrelation(const LinearModel& model,
                                                      const std::vector<Eigen::RowVectorXd>& with) {
  const size_t k = with.size();
  if (k == 1) return std::vector<double>{0.0};
  std::vector<double> sd;
  for (const auto& difference : with) sd.push_back(std::sqrt(model.UnscaledCovariance(difference, difference)));
  Eigen::MatrixXd correlation(k, k);
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = 0; j < k; ++j) {
      correlation(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) =
          model.UnscaledCovariance(with[i], with[j]) / (sd[i] * sd[j]);
    }
  }
  std::vector<double> lambda(k);
  for (Eigen::Index i = 0; i < static_cast<Eigen::Index>(k); ++i) {
    if (k == 2) {
      if (correlation(0, 1) < 0) return std::nullopt;
      lambda[static_cast<size_t>(i)] = std::sqrt(correlation(0, 1));
      continue;
    }
    const Eigen::Index a = i == 0 ? 1 : 0;
    const Eigen::Index b = i == 0 || i == 1 ? 2 : 1;
    const double squared = correlation(i, a) * correlation(i, b) / correlation(a, b);
    if (!(squared >= 0 && squared < 1)) return std::nullopt;
    lambda[static_cast<size_t>(i)] = std::sqrt(squared);
  }
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = 0; j < i; ++j) {
      const double off = correlation(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) - lambda[i] * lambda[j];
      if (std::abs(off) > 1e-6) return std::nullopt;
    }
  }
  for (double& value : lambda) value = std::round(value * 1e9) / 1e9;  // equal ones are found equal
  return lambda;
}

}  // namespace

std::vector<Comparison> CompareAllPairs(const LinearModel& model, const MarginalMeans& means) {
  std::vector<Comparison> comparisons;
  const auto k = static_cast<int>(std::count_if(means.means.begin(), means.means.end(),
                                                [](const MarginalMean& mean) { return mean.estimable; }));
  const double critical =
      k >= 2 ? StudentizedRangeQuantile(means.confidence, k, model.residual_df()) / std::sqrt(2.0) : kNaN;
  for (size_t i = 0; i < means.means.size(); ++i) {
    for (size_t j = i + 1; j < means.means.size(); ++j) {
      Comparison& comparison = comparisons.emplace_back(Compare(model, means.means[i], means.means[j]));
      if (!comparison.estimable || k < 2) continue;
      comparison.p_tukey = StudentizedRangeUpperTail(std::abs(comparison.t) * std::sqrt(2.0), k, model.residual_df());
      SetInterval(comparison, critical);
    }
  }
  AdjustForCount(comparisons);
  return comparisons;
}

absl::StatusOr<std::vector<Comparison>> CompareToBaseline(const LinearModel& model, const MarginalMeans& means,
                                                          const std::vector<std::string>& baseline) {
  const auto base = std::find_if(means.means.begin(), means.means.end(),
                                 [&](const MarginalMean& mean) { return mean.levels == baseline; });
  if (base == means.means.end()) {
    std::vector<std::string> names;
    for (const MarginalMean& mean : means.means) names.push_back(Name(mean));
    return absl::NotFoundError(fmt::format("no baseline '{}' among the means of {}; there are: {}", fmt::join(baseline, ", "),
                                           fmt::join(means.factors, " and "), fmt::join(names, "; ")));
  }
  if (!base->estimable) {
    return absl::InvalidArgumentError(
        fmt::format("the baseline '{}' is not estimable in the model {}; choose another", Name(*base), model.formula()));
  }
  std::vector<Comparison> comparisons;
  std::vector<Eigen::RowVectorXd> differences;
  for (const MarginalMean& mean : means.means) {
    if (&mean == &*base) continue;
    comparisons.push_back(Compare(model, mean, *base));
    if (comparisons.back().estimable) differences.push_back(mean.combination - base->combination);
  }
  AdjustForCount(comparisons);
  if (differences.empty()) return comparisons;
  const auto lambda = ProductCorrelation(model, differences);
  const double alpha = 1 - means.confidence;
  const double critical = lambda ? DunnettTwoSidedQuantile(alpha, *lambda, model.residual_df())
                                 : TQuantile(1 - 0.5 * alpha / static_cast<double>(differences.size()), model.residual_df());
  for (Comparison& comparison : comparisons) {
    if (!comparison.estimable) continue;
    if (lambda) comparison.p_dunnett = DunnettTwoSidedUpperTail(std::abs(comparison.t), *lambda, model.residual_df());
    SetInterval(comparison, critical);
  }
  return comparisons;
}

absl::StatusOr<std::vector<BestComparison>> CompareWithBest(const LinearModel& model, const MarginalMeans& means,
                                                            bool smaller_is_better) {
  std::vector<const MarginalMean*> list;
  for (const MarginalMean& mean : means.means) {
    if (mean.estimable) list.push_back(&mean);
  }
  const size_t k = list.size();
  if (k < 2) return absl::InvalidArgumentError("comparing with the best needs at least two estimable means");
  const double sign = smaller_is_better ? -1.0 : 1.0;
  const double alpha = 1 - means.confidence;

  // One-sided critical value with mean i as the control; cells of equal size share one.
  std::map<std::vector<double>, double> known;
  Eigen::MatrixXd difference(k, k);
  Eigen::MatrixXd error(k, k);
  std::vector<double> critical(k);
  for (size_t i = 0; i < k; ++i) {
    std::vector<Eigen::RowVectorXd> with;
    for (size_t j = 0; j < k; ++j) {
      if (j == i) continue;
      const Estimate estimate = model.Evaluate(list[i]->combination - list[j]->combination);
      difference(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = sign * estimate.value;
      error(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = estimate.std_error;
      with.push_back(list[j]->combination - list[i]->combination);
    }
    auto lambda = ProductCorrelation(model, with);
    if (lambda) {
      std::sort(lambda->begin(), lambda->end());
      const auto [entry, is_new] = known.try_emplace(*lambda, 0.0);
      if (is_new) entry->second = DunnettOneSidedQuantile(alpha, *lambda, model.residual_df());
      critical[i] = entry->second;
    } else {
      critical[i] = TQuantile(1 - alpha / static_cast<double>(k - 1), model.residual_df());  // Bonferroni: never too small
    }
  }

  std::vector<BestComparison> result(k);
  std::vector<size_t> candidates;
  for (size_t i = 0; i < k; ++i) {
    double high = std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < k; ++j) {
      if (j == i) continue;
      const auto a = static_cast<Eigen::Index>(i);
      const auto b = static_cast<Eigen::Index>(j);
      high = std::min(high, difference(a, b) + critical[i] * error(a, b));
    }
    result[i] = {.levels = Name(*list[i]), .mean = list[i]->mean, .low = 0, .high = std::max(0.0, high), .may_be_best = high > 0};
    if (high > 0) candidates.push_back(i);
  }
  for (size_t i = 0; i < k; ++i) {
    if (candidates.size() == 1 && candidates[0] == i) continue;  // the only candidate: at least as good as all others
    double low = std::numeric_limits<double>::infinity();
    for (const size_t j : candidates) {
      if (j == i) continue;
      const auto a = static_cast<Eigen::Index>(i);
      const auto b = static_cast<Eigen::Index>(j);
      low = std::min(low, difference(a, b) - critical[j] * error(a, b));
    }
    result[i].low = std::min(0.0, low);
  }
  return result;
}

}  // namespace loupe::analysis
