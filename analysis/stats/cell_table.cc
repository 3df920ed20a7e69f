#include "analysis/stats/cell_table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

constexpr int64_t kDenseKeys = int64_t{1} << 22;  // up to here a plain array maps keys to cells

// Mixed-radix key of a combination of levels -> index of its cell, in order of first appearance.
class CellIndex {
 public:
  explicit CellIndex(int64_t keys) {
    if (keys <= kDenseKeys) dense_.assign(static_cast<size_t>(keys), -1);
  }

  // `is_new` tells whether this key was met for the first time.
  int32_t FindOrAdd(int64_t key, bool& is_new) {
    if (!dense_.empty()) {
      int32_t& cell = dense_[static_cast<size_t>(key)];
      is_new = cell < 0;
      if (is_new) cell = next_++;
      return cell;
    }
    const auto [entry, inserted] = sparse_.try_emplace(key, next_);
    is_new = inserted;
    if (inserted) ++next_;
    return entry->second;
  }

 private:
  std::vector<int32_t> dense_;
  std::unordered_map<int64_t, int32_t> sparse_;
  int32_t next_ = 0;
};

// Replaces original level codes by positions among the levels that occur.
void CompactLevels(const DataTable& data, CellTable& table) {
  for (size_t position = 0; position < table.factors.size(); ++position) {
    std::vector<int32_t> new_code(data.factors[table.factors[position]].levels.size(), -1);
    for (const int32_t code : table.codes[position]) new_code[static_cast<size_t>(code)] = 0;
    std::vector<int32_t>& used = table.used_levels.emplace_back();
    for (size_t code = 0; code < new_code.size(); ++code) {
      if (new_code[code] < 0) continue;
      new_code[code] = static_cast<int32_t>(used.size());
      used.push_back(static_cast<int32_t>(code));
    }
    for (int32_t& code : table.codes[position]) code = new_code[static_cast<size_t>(code)];
  }
}

}  // namespace

bool RowIsUsed(const DataTable& data, size_t row, const std::vector<size_t>& factors, bool include_stopped_early,
               SampleAccount& account) {
  switch (data.Status(row)) {
    case RowStatus::kComplete:
      break;
    case RowStatus::kFailed:
      ++account.failed;
      return false;
    case RowStatus::kCancelled:
      ++account.cancelled;
      return false;
    case RowStatus::kStoppedEarly:
      if (!include_stopped_early) {
        ++account.stopped_early;
        return false;
      }
  }
  if (std::isnan(data.response_deviation[row])) {
    ++account.missing_response;
    return false;
  }
  for (const size_t factor : factors) {
    if (data.factors[factor].codes[row] == kMissingLevel) {
      ++account.missing_level;
      return false;
    }
  }
  if (data.Status(row) == RowStatus::kStoppedEarly) ++account.stopped_early_included;
  ++account.used;
  return true;
}

absl::StatusOr<CellTable> BuildCellTable(const DataTable& data, std::vector<size_t> factors, bool include_stopped_early) {
  CellTable table;
  table.factors = std::move(factors);
  table.codes.resize(table.factors.size());
  double key_count = 1;
  for (const size_t factor : table.factors) key_count *= static_cast<double>(data.factors[factor].levels.size());
  if (key_count > 9e18) {
    return absl::InvalidArgumentError("the factors have more than 9e18 combinations of levels; leave some factors out");
  }

  CellIndex index(static_cast<int64_t>(key_count));
  std::vector<int32_t>& cell_of_row = table.cell_of_row;
  cell_of_row.assign(data.rows(), -1);
  std::vector<double> sum;
  double smallest = std::numeric_limits<double>::infinity();
  double largest = -smallest;
  table.sample.rows = static_cast<int64_t>(data.rows());
  for (size_t row = 0; row < data.rows(); ++row) {
    if (!RowIsUsed(data, row, table.factors, include_stopped_early, table.sample)) continue;
    int64_t key = 0;
    for (const size_t factor : table.factors) {
      key = key * static_cast<int64_t>(data.factors[factor].levels.size()) + data.factors[factor].codes[row];
    }
    bool is_new = false;
    const int32_t cell = index.FindOrAdd(key, is_new);
    if (is_new) {
      for (size_t i = 0; i < table.factors.size(); ++i) table.codes[i].push_back(data.factors[table.factors[i]].codes[row]);
      sum.push_back(0);
      table.n.push_back(0);
    }
    const double value = data.response_deviation[row];
    cell_of_row[row] = cell;
    sum[static_cast<size_t>(cell)] += value;
    table.n[static_cast<size_t>(cell)] += 1;
    smallest = std::min(smallest, value);
    largest = std::max(largest, value);
  }
  if (table.sample.used == 0) {
    return absl::InvalidArgumentError(fmt::format(
        "no row can be analysed ({}); check the response column '{}'", table.sample.Sentence(), data.response_name));
  }
  if (smallest == largest) {
    return absl::InvalidArgumentError(fmt::format(
        "the response '{}' is the same ({}) in all {} rows used, so there is no variation to explain; check that it is the "
        "column you mean", data.response_name, data.response_origin + smallest, table.sample.used));
  }

  double grand_sum = 0;
  for (size_t cell = 0; cell < sum.size(); ++cell) {
    table.mean.push_back(sum[cell] / table.n[cell]);
    table.total_n += table.n[cell];
    grand_sum += sum[cell];
  }
  table.centre = grand_sum / table.total_n;
  table.within_sum_sq.assign(table.cells(), 0.0);
  // Second pass: squares about each cell's mean, with the rounding error of that mean taken out again
  // (Chan, Golub & LeVeque 1983, The American Statistician 37:242).
  std::vector<double> remainder(table.cells(), 0.0);
  double total_remainder = 0;
  for (size_t row = 0; row < data.rows(); ++row) {
    if (cell_of_row[row] < 0) continue;
    const auto cell = static_cast<size_t>(cell_of_row[row]);
    const double within = data.response_deviation[row] - table.mean[cell];
    table.within_sum_sq[cell] += within * within;
    remainder[cell] += within;
    const double about_grand = data.response_deviation[row] - table.centre;
    table.total_sum_sq += about_grand * about_grand;
    total_remainder += about_grand;
  }
  table.total_sum_sq -= total_remainder * total_remainder / table.total_n;
  for (size_t cell = 0; cell < table.cells(); ++cell) {
    table.within_sum_sq[cell] -= remainder[cell] * remainder[cell] / table.n[cell];
    if (table.n[cell] == 1) table.within_sum_sq[cell] = 0;
    table.mean[cell] = (table.mean[cell] - table.centre) + remainder[cell] / table.n[cell];
    table.pure_error_sum_sq += table.within_sum_sq[cell];
    table.pure_error_df += table.n[cell] - 1;
  }
  CompactLevels(data, table);
  return table;
}

}  // namespace loupe::analysis
