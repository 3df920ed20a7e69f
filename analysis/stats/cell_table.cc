#include "analysis/stats/cell_table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

// A residual below this share of the total is rounding, not error.
constexpr double kPerfectFit = 1e-24;

// Replaces keys in [0, range) by 0, 1, … in order of first appearance; negative ones stay. Returns how many there are.
int64_t NumberKeys(std::vector<int64_t>& keys, int64_t range) {
  int64_t next = 0;
  if (range <=
      std::max(int64_t{1} << 22, 16 * static_cast<int64_t>(keys.size()))) {  // a plain array maps keys to numbers
    std::vector<int32_t> number(static_cast<size_t>(range), -1);
    for (int64_t& key : keys) {
      if (key < 0) continue;
      int32_t& known = number[static_cast<size_t>(key)];
      if (known < 0) known = static_cast<int32_t>(next++);
      key = known;
    }
    return next;
  }
  std::unordered_map<int64_t, int64_t> number;
  number.reserve(keys.size());
  for (int64_t& key : keys) {
    if (key < 0) continue;
    const auto [entry, is_new] = number.try_emplace(key, next);
    if (is_new) ++next;
    key = entry->second;
  }
  return next;
}

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

// Precondition: levels are compact.
void FindNesting(const DataTable& data, CellTable& table) {
  const auto position_of_level = [&](size_t position, size_t code) {
    const std::vector<int32_t>& used = table.used_levels[position];
    const auto found = std::find(used.begin(), used.end(), static_cast<int32_t>(code));
    return found == used.end() ? -1 : static_cast<int32_t>(found - used.begin());
  };
  if (std::all_of(table.factors.begin(), table.factors.end(),
                  [&](size_t factor) { return data.factors[factor].nested_in.empty(); })) {
    return;
  }
  table.nesting.resize(table.factors.size());
  for (size_t position = 0; position < table.factors.size(); ++position) {
    const Factor& factor = data.factors[table.factors[position]];
    CellNesting& nesting = table.nesting[position];
    for (size_t outer = 0; outer < table.factors.size() && !factor.nested_in.empty(); ++outer) {
      const Factor& other = data.factors[table.factors[outer]];
      if (other.name != factor.nested_in) continue;
      const auto level = std::find(other.levels.begin(), other.levels.end(), factor.nested_level);
      nesting = {.nested = true,
                 .outer = outer,
                 .outer_level = level == other.levels.end()
                                    ? -1
                                    : position_of_level(outer, static_cast<size_t>(level - other.levels.begin())),
                 .absent = position_of_level(position, factor.levels.size() - 1)};
    }
  }
}

}  // namespace

size_t CellTable::PositionOf(size_t factor) const {
  return static_cast<size_t>(std::find(factors.begin(), factors.end(), factor) - factors.begin());
}

bool CellTable::IsImplied(size_t outer, const std::vector<size_t>& term) const {
  return std::any_of(term.begin(), term.end(), [&](size_t factor) {
    const CellNesting other = NestingOf(PositionOf(factor));
    return other.nested && factors[other.outer] == outer;
  });
}

// Factor by factor, so that combinations that do not occur never count: numbers stay below rows × levels of one factor.
int64_t NumberCells(const DataTable& data, const std::vector<size_t>& factors, std::vector<int32_t>& cell_of_row) {
  std::vector<int64_t> keys(cell_of_row.begin(), cell_of_row.end());
  int64_t range = 1;
  for (const size_t factor : factors) {
    const auto levels = static_cast<int64_t>(data.factors[factor].levels.size());
    if (range * levels > 4 * static_cast<int64_t>(keys.size()) + 4096) range = NumberKeys(keys, range);
    const std::vector<int32_t>& codes = data.factors[factor].codes;
    for (size_t row = 0; row < keys.size(); ++row) {
      if (keys[row] >= 0) keys[row] = keys[row] * levels + codes[row];
    }
    range *= levels;
  }
  const int64_t cells = NumberKeys(keys, range);
  for (size_t row = 0; row < keys.size(); ++row) cell_of_row[row] = static_cast<int32_t>(keys[row]);
  return cells;
}

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
  if (!std::isfinite(data.response_deviation[row])) {
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

double CellTable::WithoutRounding(double residual_sum_sq) const {
  const double least = std::max(kPerfectFit * total_sum_sq, 4 * rounding * rounding * total_n);
  return residual_sum_sq <= least ? 0.0 : residual_sum_sq;
}

absl::StatusOr<CellTable> BuildCellTable(const DataTable& data, std::vector<size_t> factors,
                                         bool include_stopped_early) {
  CellTable table;
  table.factors = std::move(factors);
  std::vector<int32_t>& cell_of_row = table.cell_of_row;
  cell_of_row.assign(data.rows(), -1);
  double smallest = std::numeric_limits<double>::infinity();
  double largest = -smallest;
  table.sample.rows = static_cast<int64_t>(data.rows());
  for (size_t row = 0; row < data.rows(); ++row) {
    if (!RowIsUsed(data, row, table.factors, include_stopped_early, table.sample)) continue;
    cell_of_row[row] = 0;
    smallest = std::min(smallest, data.response_deviation[row]);
    largest = std::max(largest, data.response_deviation[row]);
  }
  if (table.sample.used == 0) {
    return absl::InvalidArgumentError(fmt::format("no row can be analysed ({}); check the response column '{}'",
                                                  table.sample.Sentence(), data.response_name));
  }
  if (0.5 * largest - 0.5 * smallest <= data.response_rounding) {
    return absl::InvalidArgumentError(fmt::format(
        "the response '{}' is the same ({}) in all {} rows used, so there is no variation to explain; check that it is the "
        "column you mean",
        data.response_name, data.response_origin + smallest, table.sample.used));
  }
  const auto cells = static_cast<size_t>(NumberCells(data, table.factors, cell_of_row));
  table.unit = PowerOfTwo(std::max(std::abs(smallest), std::abs(largest)));
  table.rounding = table.unit.Down(data.response_rounding);

  table.codes.assign(table.factors.size(), std::vector<int32_t>(cells));
  table.n.assign(cells, 0.0);
  std::vector<double> sum(cells, 0.0);
  for (size_t row = 0; row < data.rows(); ++row) {
    if (cell_of_row[row] < 0) continue;
    const auto cell = static_cast<size_t>(cell_of_row[row]);
    if (table.n[cell] == 0) {
      for (size_t i = 0; i < table.factors.size(); ++i)
        table.codes[i][cell] = data.factors[table.factors[i]].codes[row];
    }
    sum[cell] += table.unit.Down(data.response_deviation[row]);
    table.n[cell] += 1;
  }
  double grand_sum = 0;
  for (size_t cell = 0; cell < cells; ++cell) {
    table.mean.push_back(sum[cell] / table.n[cell]);
    table.total_n += table.n[cell];
    grand_sum += sum[cell];
  }
  table.scaled_centre = grand_sum / table.total_n;
  table.within_sum_sq.assign(cells, 0.0);
  // Second pass: squares about each cell's mean, with the rounding error of that mean taken out again
  // (Chan, Golub & LeVeque 1983, The American Statistician 37:242).
  std::vector<double> remainder(cells, 0.0);
  double total_remainder = 0;
  for (size_t row = 0; row < data.rows(); ++row) {
    if (cell_of_row[row] < 0) continue;
    const auto cell = static_cast<size_t>(cell_of_row[row]);
    const double value = table.unit.Down(data.response_deviation[row]);
    const double within = value - table.mean[cell];
    table.within_sum_sq[cell] += within * within;
    remainder[cell] += within;
    const double about_grand = value - table.scaled_centre;
    table.total_sum_sq += about_grand * about_grand;
    total_remainder += about_grand;
  }
  table.total_sum_sq -= total_remainder * total_remainder / table.total_n;
  for (size_t cell = 0; cell < cells; ++cell) {
    table.within_sum_sq[cell] -= remainder[cell] * remainder[cell] / table.n[cell];
    if (table.n[cell] == 1) table.within_sum_sq[cell] = 0;
    table.mean[cell] = (table.mean[cell] - table.scaled_centre) + remainder[cell] / table.n[cell];
    table.pure_error_sum_sq += table.within_sum_sq[cell];
    table.pure_error_df += table.n[cell] - 1;
  }
  CompactLevels(data, table);
  FindNesting(data, table);
  return table;
}

}  // namespace loupe::analysis::stats
