#include "analysis/stats/level_means.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/stats/cell_table.h"
#include "analysis/stats/distributions.h"
#include "analysis/stats/nan.h"
#include "analysis/stats/wide_number.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::stats {
namespace {

// Mean, spread and interval from deviations about the table's origin, in two passes.
LevelMean Summarise(std::string level, const std::vector<double>& deviations, double origin, double confidence) {
  LevelMean result{.level = std::move(level),
                   .n = static_cast<int64_t>(deviations.size()),
                   .mean = kNaN,
                   .sd = kNaN,
                   .std_error = kNaN,
                   .low = kNaN,
                   .high = kNaN};
  if (deviations.empty()) return result;
  const auto n = static_cast<double>(deviations.size());
  const auto [least, greatest] = std::minmax_element(deviations.begin(), deviations.end());
  // Over a power of two, so that neither sums nor squares overflow or vanish; equal values have no spread at all.
  const PowerOfTwo unit(std::max(std::abs(*least), std::abs(*greatest)));
  const double first = unit.Down(*least);
  double sum = 0;
  for (const double value : deviations) sum += unit.Down(value) - first;
  const double mean = sum / n;  // about `first`
  result.mean = origin + unit.Up(first + mean);
  if (deviations.size() < 2) return result;
  double squares = 0;
  double remainder = 0;
  for (const double value : deviations) {
    const double about = unit.Down(value) - first - mean;
    squares += about * about;
    remainder += about;
  }
  result.sd = unit.Up(std::sqrt(std::max(0.0, squares - remainder * remainder / n) / (n - 1)));
  result.std_error = result.sd / std::sqrt(n);
  const double half_width = TQuantile(0.5 * (1 + confidence), n - 1) * result.std_error;
  result.low = result.mean - half_width;
  result.high = result.mean + half_width;
  return result;
}

std::vector<std::vector<double>> Split(const DataTable& data, const std::vector<size_t>& factors, size_t groups,
                                       bool include_stopped_early) {
  std::vector<std::vector<double>> split(groups);
  SampleAccount account;
  for (size_t row = 0; row < data.rows(); ++row) {
    if (!RowIsUsed(data, row, factors, include_stopped_early, account)) continue;
    size_t group = 0;
    for (const size_t factor : factors) {
      group = group * data.factors[factor].levels.size() + static_cast<size_t>(data.factors[factor].codes[row]);
    }
    split[group].push_back(data.response_deviation[row]);
  }
  return split;
}

}  // namespace

absl::StatusOr<std::vector<LevelMean>> LevelMeans(const DataTable& data, std::string_view factor, double confidence,
                                                  bool include_stopped_early) {
  LOUPE_ASSIGN_OR_RETURN(const size_t index, data.FactorIndex(factor));
  const std::vector<std::string>& levels = data.factors[index].levels;
  const auto split = Split(data, {index}, levels.size(), include_stopped_early);
  std::vector<LevelMean> means;
  for (size_t i = 0; i < levels.size(); ++i) {
    means.push_back(Summarise(levels[i], split[i], data.response_origin, confidence));
  }
  return means;
}

absl::StatusOr<TwoWayMeans> ComputeTwoWayMeans(const DataTable& data, std::string_view row_factor,
                                               std::string_view column_factor, double confidence,
                                               bool include_stopped_early) {
  LOUPE_ASSIGN_OR_RETURN(const size_t row, data.FactorIndex(row_factor));
  LOUPE_ASSIGN_OR_RETURN(const size_t column, data.FactorIndex(column_factor));
  TwoWayMeans result{.row_factor = std::string(row_factor),
                     .column_factor = std::string(column_factor),
                     .row_levels = data.factors[row].levels,
                     .column_levels = data.factors[column].levels,
                     .cells = {}};
  const auto split =
      Split(data, {row, column}, result.row_levels.size() * result.column_levels.size(), include_stopped_early);
  for (size_t i = 0; i < split.size(); ++i) {
    result.cells.push_back(Summarise(fmt::format("{} × {}", result.row_levels[i / result.column_levels.size()],
                                                 result.column_levels[i % result.column_levels.size()]),
                                     split[i], data.response_origin, confidence));
  }
  return result;
}

absl::StatusOr<std::vector<CellMean>> CellMeans(const DataTable& data, const std::vector<std::string>& factors,
                                                double confidence, bool include_stopped_early) {
  std::vector<size_t> indices;
  for (const std::string& name : factors) {
    LOUPE_ASSIGN_OR_RETURN(indices.emplace_back(), data.FactorIndex(name));
  }
  std::vector<int32_t> cell_of_row(data.rows(), -1);
  SampleAccount account;
  for (size_t row = 0; row < data.rows(); ++row) {
    if (RowIsUsed(data, row, indices, include_stopped_early, account)) cell_of_row[row] = 0;
  }
  std::vector<std::vector<double>> values(static_cast<size_t>(NumberCells(data, indices, cell_of_row)));
  std::map<std::vector<int32_t>, size_t> number;  // level codes of a combination that occurs, in level order
  for (size_t row = 0; row < data.rows(); ++row) {
    if (cell_of_row[row] < 0) continue;
    const auto cell = static_cast<size_t>(cell_of_row[row]);
    if (values[cell].empty()) {
      std::vector<int32_t> codes;
      for (const size_t factor : indices) codes.push_back(data.factors[factor].codes[row]);
      number.emplace(std::move(codes), cell);
    }
    values[cell].push_back(data.response_deviation[row]);
  }
  std::vector<CellMean> cells;
  for (const auto& [codes, index] : number) {
    CellMean& cell = cells.emplace_back();
    for (size_t i = 0; i < indices.size(); ++i) {
      cell.levels.push_back(data.factors[indices[i]].levels[static_cast<size_t>(codes[i])]);
    }
    cell.mean =
        Summarise(fmt::format("{}", fmt::join(cell.levels, " / ")), values[index], data.response_origin, confidence);
  }
  std::stable_sort(cells.begin(), cells.end(),
                   [](const CellMean& a, const CellMean& b) { return a.mean.mean > b.mean.mean; });
  return cells;
}

}  // namespace loupe::analysis::stats
