#include "analysis/report/cell_ranking.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <utility>

#include "analysis/report/fold_cells.h"
#include "analysis/stats/distributions.h"
#include "analysis/stats/dunnett.h"
#include "analysis/stats/marginal_means.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

constexpr size_t kMostCells = 1000;  // the comparison is quadratic in the cells

std::string Key(const std::vector<std::string>& levels) {
  std::string key;
  for (const std::string& level : levels) {
    key += level;
    key += '\x1f';
  }
  return key;
}

// One-sided Dunnett quantiles d with a cell of n rows as the control. d is smooth in n: where many cells have counts of
// their own it is computed for a few and interpolated between them, and of the others' counts those near each other
// share their mean λ. Either moves d by less than 1e-4 of itself.
class DunnettByCount {
 public:
  DunnettByCount(const std::vector<RankedCell>& cells, double alpha, double df) : alpha_(alpha), df_(df) {
    for (const RankedCell& cell : cells) ++sizes_[cell.n];
    if (sizes_.size() <= kKnots) return;
    const double low = std::log(static_cast<double>(sizes_.begin()->first)),
                 high = std::log(static_cast<double>(sizes_.rbegin()->first));
    for (size_t k = 0; k < kKnots; ++k) {  // Chebyshev's points
      const double t = std::cos((2 * static_cast<double>(k) + 1) * std::numbers::pi / (2 * kKnots));
      at_.push_back(0.5 * (low + high) + 0.5 * (high - low) * t);
      value_.push_back(Quantile(std::exp(at_.back()), -1));
    }
  }

  double operator()(int64_t n) {
    const auto [found, added] = known_.emplace(n, 0.0);
    if (added)
      found->second =
          at_.empty() ? Quantile(static_cast<double>(n), n) : Interpolated(std::log(static_cast<double>(n)));
    return found->second;
  }

 private:
  static constexpr size_t kKnots = 6, kBins = 6;

  // `own`: the count of which one cell is the control itself; −1: none is left out.
  double Quantile(double n, int64_t own) const {
    std::vector<double> lambda;
    for (const auto& [size, count] : sizes_) {
      const double share = static_cast<double>(size) / (static_cast<double>(size) + n);
      lambda.insert(lambda.end(), static_cast<size_t>(count - (size == own)), std::sqrt(share));
    }
    if (own < 0) lambda.erase(lambda.begin() + static_cast<std::ptrdiff_t>(lambda.size() / 2));
    if (sizes_.size() > kBins) {
      for (size_t bin = 0; bin < kBins; ++bin) {
        const size_t begin = bin * lambda.size() / kBins, end = (bin + 1) * lambda.size() / kBins;
        if (begin == end) continue;
        double mean = 0;
        for (size_t i = begin; i < end; ++i) mean += lambda[i] / static_cast<double>(end - begin);
        std::fill(lambda.begin() + static_cast<std::ptrdiff_t>(begin),
                  lambda.begin() + static_cast<std::ptrdiff_t>(end), mean);
      }
    }
    return stats::DunnettOneSidedQuantile(alpha_, lambda, df_);
  }

  double Interpolated(double x) const {
    double sum = 0;
    for (size_t i = 0; i < at_.size(); ++i) {
      double weight = 1;
      for (size_t j = 0; j < at_.size(); ++j) {
        if (j != i) weight *= (x - at_[j]) / (at_[i] - at_[j]);
      }
      sum += weight * value_[i];
    }
    return sum;
  }

  double alpha_, df_;
  std::map<int64_t, int64_t> sizes_;  // rows of a cell: how many cells have so many
  std::vector<double> at_, value_;    // knots in log n
  std::map<int64_t, double> known_;
};

void MarkPossiblyBest(CellRanking& ranking, bool smaller_is_better, const auto& critical_of, const auto& error_of) {
  const double sign = smaller_is_better ? -1 : 1;
  std::vector<RankedCell>& cells = ranking.cells;
  for (size_t i = 0; i < cells.size(); ++i) {
    const double critical = critical_of(i);
    double high = std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < cells.size(); ++j) {
      if (j != i) high = std::min(high, sign * (cells[i].mean - cells[j].mean) + critical * error_of(i, j));
    }
    cells[i].best_high = std::max(0.0, high);
    cells[i].may_be_best = high > 0;
    ranking.may_be_best += high > 0;
  }
}

void SortBestFirst(std::vector<RankedCell>& cells, bool smaller_is_better) {
  std::stable_sort(cells.begin(), cells.end(), [&](const RankedCell& a, const RankedCell& b) {
    return smaller_is_better ? a.mean < b.mean : a.mean > b.mean;
  });
}

CellRanking RankByReplicates(const stats::LinearModel& saturated, const std::vector<stats::CellMean>& cells,
                             double confidence, bool smaller_is_better) {
  CellRanking ranking;
  ranking.from_replicates = true;
  ranking.error_df = saturated.residual_df();
  const double s = saturated.residual_sd(), t = stats::TQuantile(0.5 * (1 + confidence), ranking.error_df);
  for (const stats::CellMean& cell : cells) {
    const double half = t * s / std::sqrt(static_cast<double>(cell.mean.n));
    ranking.cells.push_back(
        {cell.levels, cell.mean.n, cell.mean.mean, cell.mean.mean - half, cell.mean.mean + half, 0, false});
  }
  SortBestFirst(ranking.cells, smaller_is_better);
  DunnettByCount critical(ranking.cells, 1 - confidence, ranking.error_df);
  MarkPossiblyBest(
      ranking, smaller_is_better, [&](size_t i) { return critical(ranking.cells[i].n); },
      [&](size_t i, size_t j) {
        return s *
               std::sqrt(1.0 / static_cast<double>(ranking.cells[i].n) + 1.0 / static_cast<double>(ranking.cells[j].n));
      });
  return ranking;
}

CellRanking RankByModel(const stats::LinearModel& fitted, const std::vector<std::string>& cell_factors,
                        const std::vector<stats::CellMean>& cells, double confidence, bool smaller_is_better) {
  CellRanking ranking;
  ranking.error_df = fitted.residual_df();
  const auto means = stats::ComputeMarginalMeans(fitted, cell_factors, stats::Combinations::kOccurring, confidence);
  if (!means.ok()) {
    ranking.reason = "No cell is replicated and the model does not have every factor, so the cells have no intervals.";
    return ranking;
  }
  std::map<std::string, const stats::MarginalMean*> by_key;
  for (const stats::MarginalMean& mean : means->means) by_key[Key(mean.levels)] = &mean;
  for (const stats::CellMean& cell : cells) {
    const auto found = by_key.find(Key(cell.levels));
    if (found == by_key.end() || !found->second->estimable) continue;
    const stats::MarginalMean& mean = *found->second;
    ranking.cells.push_back({cell.levels, cell.mean.n, mean.mean, mean.low, mean.high, 0, false});
  }
  SortBestFirst(ranking.cells, smaller_is_better);
  const double others = static_cast<double>(std::max<size_t>(2, ranking.cells.size()) - 1);
  const double bonferroni = stats::TQuantile(1 - (1 - confidence) / others, ranking.error_df);
  MarkPossiblyBest(
      ranking, smaller_is_better, [&](size_t) { return bonferroni; },
      [&](size_t i, size_t j) {
        const auto& a = by_key[Key(ranking.cells[i].levels)]->combination;
        const auto& b = by_key[Key(ranking.cells[j].levels)]->combination;
        return fitted.Evaluate(a - b).std_error;
      });
  return ranking;
}

}  // namespace

CellRanking RankCells(const stats::DataTable& data, const stats::AnovaOptions& options,
                      const stats::LinearModel& fitted, const std::vector<std::string>& cell_factors,
                      const std::vector<stats::CellMean>& cells, bool smaller_is_better) {
  CellRanking ranking;
  if (cells.size() < 2 || cells.size() > kMostCells) {
    ranking.reason = fmt::format("There are {} cells; 2 to {} can be ranked with intervals.", cells.size(), kMostCells);
    return ranking;
  }
  stats::AnovaOptions folded_options = options;
  folded_options.formula = kCellFactor;
  const stats::DataTable folded = FoldCells(data, cell_factors, options.block);
  const auto saturated = stats::LinearModel::Fit(folded, folded_options);
  if (saturated.ok() && (*saturated)->reproduces_response()) {
    ranking.reason =
        "The replicates of each cell are equal (but for what their block explains), so there is no error to rank the cells by.";
    return ranking;
  }
  if (!saturated.ok() && fitted.reproduces_response()) {
    ranking.reason = "The model reproduces every response exactly, so there is no error to rank the cells by.";
    return ranking;
  }
  if (saturated.ok()) return RankByReplicates(**saturated, cells, options.confidence, smaller_is_better);
  return RankByModel(fitted, cell_factors, cells, options.confidence, smaller_is_better);
}

}  // namespace loupe::analysis::report
