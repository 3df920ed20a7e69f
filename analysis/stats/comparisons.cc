#include "analysis/stats/comparisons.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "analysis/stats/distributions.h"
#include "analysis/stats/dunnett.h"
#include "analysis/stats/estimability_reasons.h"
#include "analysis/stats/nan.h"
#include "analysis/stats/p_adjust.h"
#include "analysis/stats/studentized_range.h"
#include "boost/math/interpolators/cardinal_cubic_b_spline.hpp"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;

std::string Name(const MarginalMean& mean) { return fmt::format("{}", fmt::join(mean.levels, ", ")); }

// Every mean taken apart once; differences are then sums of two columns.
class Differences {
 public:
  Differences(const LinearModel& model, const std::vector<const MarginalMean*>& means)
      : model_(model), means_(means), parts_(model.Decompose(CombinationsOf(means))), reasons_(model) {}

  // means[i] − means[j], without what depends on the other comparisons.
  Comparison Of(size_t i, size_t j) {
    Comparison result{.first = Name(*means_[i]),
                      .second = Name(*means_[j]),
                      .estimable = false,
                      .reason = "",
                      .difference = kNaN,
                      .std_error = kNaN,
                      .t = kNaN,
                      .p = kNaN,
                      .p_tukey = kNaN,
                      .p_dunnett = kNaN,
                      .p_holm = kNaN,
                      .p_benjamini_hochberg = kNaN,
                      .low = kNaN,
                      .high = kNaN};
    const Index a = static_cast<Index>(i), b = static_cast<Index>(j);
    if (!LinearModel::IsEstimable(parts_, a, b)) {
      result.reason = reasons_.OfDifference(means_[i]->at, means_[j]->at);
      return result;
    }
    result.estimable = true;
    result.difference = parts_.deviation(a) - parts_.deviation(b);
    result.std_error = StdError(i, j);
    if (result.std_error > 0) {
      result.t = result.difference / result.std_error;
      result.p = TTwoSided(result.t, model_.residual_df());
    }
    return result;
  }

  double StdError(size_t i, size_t j) const {
    return model_.residual_sd() *
           (parts_.white.col(static_cast<Index>(i)) - parts_.white.col(static_cast<Index>(j))).norm();
  }
  // Of all means, divided by σ².
  MatrixXd Covariance() const { return parts_.white.transpose() * parts_.white; }

 private:
  static std::vector<Eigen::RowVectorXd> CombinationsOf(const std::vector<const MarginalMean*>& means) {
    std::vector<Eigen::RowVectorXd> combinations;
    for (const MarginalMean* mean : means) combinations.push_back(mean->combination);
    return combinations;
  }

  const LinearModel& model_;
  const std::vector<const MarginalMean*>& means_;
  CombinationParts parts_;
  EstimabilityReasons reasons_;
};

std::vector<const MarginalMean*> PointersTo(const MarginalMeans& means) {
  std::vector<const MarginalMean*> pointers;
  for (const MarginalMean& mean : means.means) pointers.push_back(&mean);
  return pointers;
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
// independent. `covariance` is that of all means; 0 stands for `control`, i and j run over the others in order.
std::optional<std::vector<double>> ProductCorrelation(const MatrixXd& covariance, Index control) {
  std::vector<Index> others;
  for (Index i = 0; i < covariance.rows(); ++i) {
    if (i != control) others.push_back(i);
  }
  const size_t k = others.size();
  if (k == 1) return std::vector<double>{0.0};
  const auto difference_covariance = [&](size_t i, size_t j) {
    return covariance(others[i], others[j]) - covariance(others[i], control) - covariance(control, others[j]) +
           covariance(control, control);
  };
  std::vector<double> sd(k);
  for (size_t i = 0; i < k; ++i) sd[i] = std::sqrt(difference_covariance(i, i));
  const auto correlation = [&](size_t i, size_t j) { return difference_covariance(i, j) / (sd[i] * sd[j]); };
  std::vector<double> lambda(k);
  for (size_t i = 0; i < k; ++i) {
    const size_t a = i == 0 ? 1 : 0;
    const size_t b = i <= 1 ? 2 : 1;
    const double squared = k == 2 ? correlation(0, 1) : correlation(i, a) * correlation(i, b) / correlation(a, b);
    if (!(squared >= 0 && squared < 1)) return std::nullopt;
    lambda[i] = std::sqrt(squared);
  }
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (!(std::abs(correlation(i, j) - lambda[i] * lambda[j]) < 1e-6)) return std::nullopt;
    }
  }
  for (double& value : lambda) value = std::round(value * 1e9) / 1e9;  // equal ones are found equal
  return lambda;
}

// P(Q > q) for many q. Each exact value costs a double integral, so above some hundred comparisons a table of its
// logarithm is interpolated (cubic spline; relative error under 1e-5).
class TukeyTail {
 public:
  TukeyTail(int k, double df, size_t uses, double largest) : k_(k), df_(df) {
    constexpr size_t kExactUses = 300;
    constexpr int kNodes = 160;
    if (uses <= kExactUses || !(largest > 0)) return;
    end_ = std::min(largest, 60.0) * 1.0000001;
    const double step = end_ / kNodes;
    std::vector<double> log_tail;
    for (int i = 0; i <= kNodes; ++i) {
      const double tail = StudentizedRangeUpperTail(i * step, k_, df_);
      if (tail < 1e-290) break;  // no double holds it for long
      log_tail.push_back(std::log(tail));
    }
    end_ = step * static_cast<double>(log_tail.size() - 1);
    if (log_tail.size() > 8) table_.emplace(log_tail.begin(), log_tail.end(), 0.0, step);
  }

  double operator()(double q) const {
    if (!table_) return StudentizedRangeUpperTail(q, k_, df_);
    if (q >= end_) return StudentizedRangeUpperTail(q, k_, df_);
    return std::exp((*table_)(q));
  }

 private:
  int k_;
  double df_;
  double end_ = 0;
  std::optional<boost::math::interpolators::cardinal_cubic_b_spline<double>> table_;
};

}  // namespace

std::vector<Comparison> DifferencesOfAllPairs(const LinearModel& model, const MarginalMeans& means) {
  const std::vector<const MarginalMean*> all = PointersTo(means);
  Differences differences(model, all);
  std::vector<Comparison> comparisons;
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t j = i + 1; j < all.size(); ++j) comparisons.push_back(differences.Of(i, j));
  }
  AdjustForCount(comparisons);
  return comparisons;
}

std::vector<Comparison> CompareAllPairs(const LinearModel& model, const MarginalMeans& means) {
  std::vector<Comparison> comparisons = DifferencesOfAllPairs(model, means);
  double largest = 0;
  bool any = false;
  for (const Comparison& comparison : comparisons) {
    if (!std::isfinite(comparison.t)) continue;
    any = true;
    largest = std::max(largest, std::abs(comparison.t) * std::sqrt(2.0));
  }
  if (!any) return comparisons;
  const auto k = static_cast<int>(means.means.size());
  if (k == 2) {  // one difference: Student's t, without integrals
    comparisons[0].p_tukey = comparisons[0].p;
    SetInterval(comparisons[0], TQuantile(0.5 * (1 + means.confidence), model.residual_df()));
    return comparisons;
  }
  const double critical = StudentizedRangeQuantile(means.confidence, k, model.residual_df()) / std::sqrt(2.0);
  const TukeyTail tail(k, model.residual_df(), comparisons.size(), largest);
  for (Comparison& comparison : comparisons) {
    if (!std::isfinite(comparison.t)) continue;
    comparison.p_tukey = tail(std::abs(comparison.t) * std::sqrt(2.0));
    SetInterval(comparison, critical);
  }
  return comparisons;
}

absl::StatusOr<std::vector<Comparison>> CompareToBaseline(const LinearModel& model, const MarginalMeans& means,
                                                          const std::vector<std::string>& baseline) {
  const auto base = std::find_if(means.means.begin(), means.means.end(),
                                 [&](const MarginalMean& mean) { return mean.levels == baseline; });
  if (base == means.means.end()) {
    std::vector<std::string> names;
    for (const MarginalMean& mean : means.means) names.push_back(Name(mean));
    return absl::NotFoundError(fmt::format("no baseline '{}' among the means of {}; there are: {}",
                                           fmt::join(baseline, ", "), fmt::join(means.factors, " and "),
                                           fmt::join(names, "; ")));
  }
  std::vector<const MarginalMean*> all = PointersTo(means);
  std::swap(all[0], all[static_cast<size_t>(base - means.means.begin())]);
  std::sort(all.begin() + 1, all.end());  // the others stay in order
  Differences differences(model, all);
  std::vector<Comparison> comparisons;
  std::vector<Index> involved{0};
  for (size_t i = 1; i < all.size(); ++i) {
    comparisons.push_back(differences.Of(i, 0));
    if (std::isfinite(comparisons.back().t)) involved.push_back(static_cast<Index>(i));
  }
  AdjustForCount(comparisons);
  if (involved.size() == 1) return comparisons;
  const MatrixXd covariance = differences.Covariance()(involved, involved);
  const auto lambda = ProductCorrelation(covariance, 0);
  const double alpha = 1 - means.confidence;
  const double critical =
      lambda ? DunnettTwoSidedQuantile(alpha, *lambda, model.residual_df())
             : TQuantile(1 - 0.5 * alpha / static_cast<double>(involved.size() - 1), model.residual_df());
  for (Comparison& comparison : comparisons) {
    if (!std::isfinite(comparison.t)) continue;
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

  const auto difference = [&](size_t i, size_t j) { return sign * (list[i]->deviation - list[j]->deviation); };
  const Differences differences(model, list);
  const MatrixXd covariance = differences.Covariance();
  const auto error = [&](size_t i, size_t j) { return differences.StdError(i, j); };
  // One-sided critical value with mean i as the control; cells of equal size share one.
  std::map<std::vector<double>, double> known;
  std::vector<double> critical(k);
  for (size_t i = 0; i < k; ++i) {
    auto lambda = ProductCorrelation(covariance, static_cast<Index>(i));
    if (lambda) {
      std::sort(lambda->begin(), lambda->end());
      const auto [entry, is_new] = known.try_emplace(*lambda, 0.0);
      if (is_new) entry->second = DunnettOneSidedQuantile(alpha, *lambda, model.residual_df());
      critical[i] = entry->second;
    } else {
      critical[i] =
          TQuantile(1 - alpha / static_cast<double>(k - 1), model.residual_df());  // Bonferroni: never too small
    }
  }

  std::vector<BestComparison> result(k);
  std::vector<size_t> candidates;
  for (size_t i = 0; i < k; ++i) {
    double high = std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < k; ++j) {
      if (j == i) continue;
      high = std::min(high, difference(i, j) + critical[i] * error(i, j));
    }
    result[i] = {.levels = Name(*list[i]),
                 .mean = list[i]->mean,
                 .low = 0,
                 .high = std::max(0.0, high),
                 .may_be_best = high > 0};
    if (high > 0) candidates.push_back(i);
  }
  for (size_t i = 0; i < k; ++i) {
    if (candidates.size() == 1 && candidates[0] == i) continue;  // the only candidate: at least as good as all others
    double low = std::numeric_limits<double>::infinity();
    for (const size_t j : candidates) {
      if (j == i) continue;
      low = std::min(low, difference(i, j) - critical[j] * error(i, j));
    }
    result[i].low = std::min(0.0, low);
  }
  return result;
}

}  // namespace loupe::analysis::stats
