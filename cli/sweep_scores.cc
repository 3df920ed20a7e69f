#include "cli/sweep_scores.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string_view>

#include "fmt/format.h"

namespace loupe::cli {
namespace {

// view.proto: the cell does not have the factor.
constexpr uint32_t kNoLevel = 4294967295;

// The i-th element of a little-endian column.
template <typename Bits>
Bits At(std::string_view column, size_t i) {
  Bits bits = 0;
  for (size_t byte = sizeof(Bits); byte-- > 0;)
    bits = static_cast<Bits>(bits << 8 | static_cast<unsigned char>(column[i * sizeof(Bits) + byte]));
  return bits;
}

}  // namespace

void ScoreSum::Add(double value) {
  ++count;
  sum += value;
  sum_of_squares += value * value;
}

void ScoreSum::Add(const ScoreSum& other) {
  count += other.count;
  sum += other.sum;
  sum_of_squares += other.sum_of_squares;
}

double ScoreSum::Mean() const {
  return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(count);
}

double ScoreSum::Deviation() const {
  if (count < 2) return std::numeric_limits<double>::quiet_NaN();
  const auto n = static_cast<double>(count);
  return std::sqrt(std::max(0.0, (sum_of_squares - sum * sum / n) / (n - 1)));
}

absl::Status SweepScores::Add(const v1::GetTrialTableResponse& page) {
  const auto rows = static_cast<size_t>(std::max(0, page.rows()));
  bool whole = page.cells().size() == rows * sizeof(uint32_t);
  for (const auto& factor : page.factors()) whole = whole && factor.column().size() == rows * sizeof(uint32_t);
  const auto score = std::find_if(page.scores().begin(), page.scores().end(),
                                  [&](const auto& one) { return one.name() == page.primary_score(); });
  if (score != page.scores().end()) whole = whole && score->column().size() == rows * sizeof(uint64_t);
  if (factors_.empty()) {
    for (const auto& factor : page.factors())
      factors_.push_back({factor.name(), {factor.levels().begin(), factor.levels().end()}});
  }
  whole = whole && static_cast<size_t>(page.factors_size()) == factors_.size();
  if (!whole) return absl::InternalError("the coordinator's table of trials has columns of unequal length");
  if (score == page.scores().end()) return absl::OkStatus();
  title_ = score->title();
  smaller_is_better_ = score->smaller_is_better();
  for (size_t row = 0; row < rows; ++row) {
    const auto value = std::bit_cast<double>(At<uint64_t>(score->column(), row));
    if (std::isnan(value)) continue;
    ++results_;
    Cell& cell = cells_[At<uint32_t>(page.cells(), row)];
    if (cell.levels.empty()) {
      for (const auto& factor : page.factors()) cell.levels.push_back(At<uint32_t>(factor.column(), row));
    }
    cell.sum.Add(value);
  }
  return absl::OkStatus();
}

ScoreGrid SweepScores::Grid() const {
  ScoreGrid grid;
  if (factors_.empty()) return grid;
  const auto find = [&](std::string_view name) {
    return static_cast<size_t>(
        std::find_if(factors_.begin(), factors_.end(), [&](const Factor& factor) { return factor.name == name; }) -
        factors_.begin());
  };
  size_t row = find("input"), column = find("output");
  if (row == factors_.size() || column == factors_.size()) {
    row = 0;
    column = 1;
  }
  grid.row_factor = factors_[row].name;
  grid.rows = factors_[row].levels;
  grid.columns = {""};
  const bool pair = column < factors_.size();
  if (pair) {
    grid.column_factor = factors_[column].name;
    grid.columns = factors_[column].levels;
  }
  grid.sums.resize(grid.rows.size() * grid.columns.size());
  for (const auto& [index, cell] : cells_) {
    const uint32_t at_row = cell.levels[row], at_column = pair ? cell.levels[column] : 0;
    // Cells of a method that does not have the factor are in no row.
    if (at_row >= grid.rows.size() || at_column >= grid.columns.size()) continue;
    grid.sums[at_row * grid.columns.size() + at_column].Add(cell.sum);
  }
  return grid;
}

std::vector<ScoredCell> SweepScores::Best(size_t most) const {
  std::vector<const Cell*> order;
  for (const auto& [index, cell] : cells_) order.push_back(&cell);
  std::stable_sort(order.begin(), order.end(), [&](const Cell* a, const Cell* b) {
    return smaller_is_better_ ? a->sum.Mean() < b->sum.Mean() : a->sum.Mean() > b->sum.Mean();
  });
  order.resize(std::min(order.size(), most));
  std::vector<ScoredCell> best;
  for (const Cell* cell : order) {
    ScoredCell& added = best.emplace_back();
    added.sum = cell->sum;
    for (size_t i = 0; i < factors_.size() && i < cell->levels.size(); ++i) {
      if (cell->levels[i] == kNoLevel || cell->levels[i] >= factors_[i].levels.size()) continue;
      added.text +=
          fmt::format("{}{}={}", added.text.empty() ? "" : " ", factors_[i].name, factors_[i].levels[cell->levels[i]]);
    }
  }
  return best;
}

}  // namespace loupe::cli
