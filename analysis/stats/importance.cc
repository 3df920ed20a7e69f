#include "analysis/stats/importance.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "analysis/stats/cell_table.h"
#include "analysis/stats/random_stream.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

struct Rows {
  std::vector<std::vector<int32_t>> codes;  // per factor, per row
  std::vector<double> y;                    // about the mean, in the cells' unit
  std::vector<size_t> levels;               // per factor
};

// A leaf: for each factor which levels lead there, and the mean response.
struct Leaf {
  std::vector<std::vector<bool>> has_level;
  double value = 0;
};

// Grows one regression tree by least squares. A split puts a factor's levels in two sets; ordering the levels by their
// mean response makes the best split one of the few cuts of that order (Fisher 1958; Breiman et al. 1984 §9.4).
class TreeGrower {
 public:
  TreeGrower(const Rows& rows, size_t smallest_leaf) : rows_(rows), smallest_leaf_(smallest_leaf) {}

  std::vector<Leaf> Grow(std::vector<size_t> sample) {
    leaves_.clear();
    Leaf root;
    for (const size_t count : rows_.levels) root.has_level.emplace_back(count, true);
    Split(std::move(sample), std::move(root));
    return std::move(leaves_);
  }

 private:
  struct Cut {
    double gain = 0;
    size_t factor = 0;
    std::vector<bool> left;  // per level
  };

  void Split(std::vector<size_t> sample, Leaf box) {
    const Cut cut = BestCut(sample, box);
    if (cut.gain <= 0) {
      double sum = 0;
      for (const size_t row : sample) sum += rows_.y[row];
      box.value = sum / static_cast<double>(sample.size());
      leaves_.push_back(std::move(box));
      return;
    }
    std::vector<size_t> left, right;
    for (const size_t row : sample) {
      (cut.left[static_cast<size_t>(rows_.codes[cut.factor][row])] ? left : right).push_back(row);
    }
    Leaf left_box = box;
    for (size_t level = 0; level < cut.left.size(); ++level) {
      left_box.has_level[cut.factor][level] = box.has_level[cut.factor][level] && cut.left[level];
      box.has_level[cut.factor][level] = box.has_level[cut.factor][level] && !cut.left[level];
    }
    sample.clear();
    Split(std::move(left), std::move(left_box));
    Split(std::move(right), std::move(box));
  }

  Cut BestCut(const std::vector<size_t>& sample, const Leaf& box) const {
    Cut best;
    if (sample.size() < 2 * smallest_leaf_) return best;
    double total = 0, squares = 0;
    for (const size_t row : sample) {
      total += rows_.y[row];
      squares += rows_.y[row] * rows_.y[row];
    }
    const auto n = static_cast<double>(sample.size());
    best.gain = 1e-12 * (squares + std::numeric_limits<double>::min());  // less is rounding
    const double threshold = best.gain;
    for (size_t factor = 0; factor < rows_.levels.size(); ++factor) {
      std::vector<double> sum(rows_.levels[factor], 0.0), count(rows_.levels[factor], 0.0);
      for (const size_t row : sample) {
        sum[static_cast<size_t>(rows_.codes[factor][row])] += rows_.y[row];
        count[static_cast<size_t>(rows_.codes[factor][row])] += 1;
      }
      std::vector<size_t> order;
      for (size_t level = 0; level < sum.size(); ++level) {
        if (count[level] > 0) order.push_back(level);
      }
      std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sum[a] / count[a] < sum[b] / count[b]; });
      double left_sum = 0, left_count = 0;
      for (size_t i = 0; i + 1 < order.size(); ++i) {
        left_sum += sum[order[i]];
        left_count += count[order[i]];
        const double right_count = n - left_count;
        if (left_count < static_cast<double>(smallest_leaf_) || right_count < static_cast<double>(smallest_leaf_))
          continue;
        const double difference = left_sum / left_count - (total - left_sum) / right_count;
        const double gain = difference * difference * left_count * right_count / n;
        if (gain <= best.gain) continue;
        best = {.gain = gain, .factor = factor, .left = std::vector<bool>(sum.size(), false)};
        for (size_t j = 0; j <= i; ++j) best.left[order[j]] = true;
        AssignAbsentLevels(order, count, box.has_level[factor], left_count >= right_count, best.left);
      }
    }
    if (best.gain <= threshold) best.gain = 0;
    return best;
  }

  // Levels of the box that the sample does not show go with the larger side.
  static void AssignAbsentLevels(const std::vector<size_t>& order, const std::vector<double>& count,
                                 const std::vector<bool>& in_box, bool left_is_larger, std::vector<bool>& left) {
    if (order.size() == count.size() || !left_is_larger) return;
    for (size_t level = 0; level < count.size(); ++level) {
      if (in_box[level] && count[level] == 0) left[level] = true;
    }
  }

  const Rows& rows_;
  size_t smallest_leaf_;
  std::vector<Leaf> leaves_;
};

// Exact marginals of one tree.
class TreeVariance {
 public:
  TreeVariance(const std::vector<Leaf>& leaves, const std::vector<size_t>& levels) : leaves_(leaves), levels_(levels) {
    for (const Leaf& leaf : leaves) {
      std::vector<double>& share = share_.emplace_back();
      double volume = 1;
      for (size_t f = 0; f < levels.size(); ++f) {
        share.push_back(static_cast<double>(std::count(leaf.has_level[f].begin(), leaf.has_level[f].end(), true)) /
                        static_cast<double>(levels[f]));
        volume *= share.back();
      }
      volume_.push_back(volume);
      mean_ += volume * leaf.value;
    }
    for (size_t i = 0; i < leaves.size(); ++i)
      total_ += volume_[i] * (leaves[i].value - mean_) * (leaves[i].value - mean_);
  }

  double total() const { return total_; }

  // Variance of the marginal over the levels of factor a.
  double Of(size_t a) const {
    std::vector<double> marginal(levels_[a], 0.0);
    for (size_t i = 0; i < leaves_.size(); ++i) {
      const double weight = volume_[i] / share_[i][a] * (leaves_[i].value - mean_);
      for (size_t level = 0; level < levels_[a]; ++level) {
        if (leaves_[i].has_level[a][level]) marginal[level] += weight;
      }
    }
    return MeanSquare(marginal);
  }

  double Of(size_t a, size_t b) const {
    std::vector<double> marginal(levels_[a] * levels_[b], 0.0);
    for (size_t i = 0; i < leaves_.size(); ++i) {
      const double weight = volume_[i] / share_[i][a] / share_[i][b] * (leaves_[i].value - mean_);
      for (size_t x = 0; x < levels_[a]; ++x) {
        if (!leaves_[i].has_level[a][x]) continue;
        for (size_t y = 0; y < levels_[b]; ++y) {
          if (leaves_[i].has_level[b][y]) marginal[x * levels_[b] + y] += weight;
        }
      }
    }
    return MeanSquare(marginal);
  }

 private:
  static double MeanSquare(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value * value;
    return sum / static_cast<double>(values.size());
  }

  const std::vector<Leaf>& leaves_;
  const std::vector<size_t>& levels_;
  std::vector<std::vector<double>> share_;  // per leaf, per factor
  std::vector<double> volume_;
  double mean_ = 0, total_ = 0;
};

}  // namespace

absl::StatusOr<Importance> ComputeImportance(const DataTable& data, const ImportanceOptions& options) {
  std::vector<size_t> factors;
  for (const std::string& name : options.factors) {
    LOUPE_ASSIGN_OR_RETURN(factors.emplace_back(), data.FactorIndex(name));
  }
  if (factors.empty()) {
    factors.resize(data.factors.size());
    std::iota(factors.begin(), factors.end(), size_t{0});
  }
  if (factors.empty() || factors.size() > 16) {
    return absl::InvalidArgumentError(
        fmt::format("importance is computed for 1 to 16 factors, not {}", factors.size()));
  }
  LOUPE_ASSIGN_OR_RETURN(const CellTable cells, BuildCellTable(data, factors, options.include_stopped_early));
  Rows rows;
  for (size_t f = 0; f < factors.size(); ++f) {
    rows.levels.push_back(cells.levels(f));
    rows.codes.emplace_back();
  }
  for (size_t row = 0; row < data.rows(); ++row) {
    const int32_t cell = cells.cell_of_row[row];
    if (cell < 0) continue;
    for (size_t f = 0; f < factors.size(); ++f) rows.codes[f].push_back(cells.codes[f][static_cast<size_t>(cell)]);
    rows.y.push_back(cells.Centred(data.response_deviation[row]));
  }

  const size_t k = factors.size();
  const size_t terms = k + k * (k - 1) / 2;
  std::vector<double> sum(terms, 0.0), squares(terms, 0.0);
  RandomStream random(options.seed);
  double trees = 0;
  TreeGrower grower(rows, static_cast<size_t>(std::max(1, options.smallest_leaf)));
  for (int tree = 0; tree < std::max(1, options.trees); ++tree) {
    std::vector<size_t> sample(rows.y.size());
    for (size_t i = 0; i < sample.size(); ++i) sample[i] = options.bootstrap ? random.Below(sample.size()) : i;
    const std::vector<Leaf> leaves = grower.Grow(std::move(sample));
    const TreeVariance variance(leaves, rows.levels);
    if (!(variance.total() > 0)) continue;  // a resample without any difference tells nothing
    trees += 1;
    std::vector<double> single(k);
    size_t at = 0;
    const auto add = [&](double share) {
      sum[at] += share;
      squares[at] += share * share;
      ++at;
    };
    for (size_t a = 0; a < k; ++a) add(single[a] = variance.Of(a) / variance.total());
    for (size_t a = 0; a < k; ++a) {
      for (size_t b = a + 1; b < k; ++b) add(variance.Of(a, b) / variance.total() - single[a] - single[b]);
    }
  }
  if (trees == 0) return absl::InvalidArgumentError("too few rows to grow a tree that splits; add trials");

  Importance importance{.shares = {}, .higher_order = 1.0, .rows = static_cast<int64_t>(rows.y.size())};
  size_t at = 0;
  const auto emit = [&](std::vector<std::string> names) {
    const double mean = sum[at] / trees;
    importance.shares.push_back({.factors = std::move(names),
                                 .share = mean,
                                 .spread = std::sqrt(std::max(0.0, squares[at] / trees - mean * mean))});
    importance.higher_order -= mean;
    ++at;
  };
  for (size_t a = 0; a < k; ++a) emit({data.factors[factors[a]].name});
  for (size_t a = 0; a < k; ++a) {
    for (size_t b = a + 1; b < k; ++b) emit({data.factors[factors[a]].name, data.factors[factors[b]].name});
  }
  importance.higher_order = std::max(0.0, importance.higher_order);
  std::stable_sort(importance.shares.begin(), importance.shares.end(),
                   [](const ImportanceShare& a, const ImportanceShare& b) { return a.share > b.share; });
  return importance;
}

}  // namespace loupe::analysis::stats
