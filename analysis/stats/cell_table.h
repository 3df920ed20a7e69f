// Observations boiled down to one line per cell (combination of levels that occurs): count, mean, within-cell sum of
// squares. These are sufficient for every linear model in the cells' factors, so a million rows cost one pass and the
// algebra runs on the cells.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis {

struct CellTable {
  std::vector<size_t> factors;                    // indices into DataTable::factors, in the order asked for
  std::vector<std::vector<int32_t>> used_levels;  // per factor: original level codes that occur, ascending
  std::vector<std::vector<int32_t>> codes;        // per factor, per cell: index into used_levels
  std::vector<double> n;                          // per cell
  std::vector<double> mean;                       // per cell, about `centre`
  std::vector<double> within_sum_sq;              // per cell
  std::vector<int32_t> cell_of_row;               // per row of the table; −1 when the row is not used
  double centre = 0;                              // grand mean minus the table's response_origin
  double total_n = 0;
  double total_sum_sq = 0;  // about the grand mean
  double pure_error_sum_sq = 0;
  double pure_error_df = 0;
  SampleAccount sample;

  size_t cells() const { return n.size(); }
  size_t levels(size_t position) const { return used_levels[position].size(); }
};

// Rows enter when their trial is complete (or stopped early, if asked), the response is present and every one of
// `factors` has a level. InvalidArgument: no row is left; all responses are equal.
absl::StatusOr<CellTable> BuildCellTable(const DataTable& data, std::vector<size_t> factors, bool include_stopped_early);

// Whether a row enters an analysis of `factors`; counts the reason in `account` if not.
bool RowIsUsed(const DataTable& data, size_t row, const std::vector<size_t>& factors, bool include_stopped_early,
               SampleAccount& account);

}  // namespace loupe::analysis
