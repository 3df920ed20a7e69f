// Observations boiled down to one line per cell (combination of levels that occurs): count, mean, within-cell sum of
// squares. These are sufficient for every linear model in the cells' factors, so a million rows cost one pass and the
// algebra runs on the cells.
//
// Law: means and sums of squares are those of the response divided by a power of two near its largest deviation
// (`unit`), so that no square overflows or vanishes and every result has the same digits whatever unit the response
// came in.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/wide_number.h"

namespace loupe::analysis {

struct CellTable {
  std::vector<size_t> factors;                    // indices into DataTable::factors, in the order asked for
  std::vector<std::vector<int32_t>> used_levels;  // per factor: original level codes that occur, ascending
  std::vector<std::vector<int32_t>> codes;        // per factor, per cell: index into used_levels
  std::vector<double> n;                          // per cell
  std::vector<double> mean;                       // per cell, about the grand mean, in `unit`
  std::vector<double> within_sum_sq;              // per cell, in unit²
  std::vector<int32_t> cell_of_row;               // per row of the table; −1 when the row is not used
  PowerOfTwo unit;
  double scaled_centre = 0;  // grand mean minus the table's response_origin, in `unit`
  double total_n = 0;
  double total_sum_sq = 0;  // about the grand mean, in unit²
  double pure_error_sum_sq = 0;
  double rounding = 0;  // response_rounding, in `unit`
  double pure_error_df = 0;
  SampleAccount sample;

  size_t cells() const { return n.size(); }
  size_t levels(size_t position) const { return used_levels[position].size(); }
  double centre() const { return unit.Up(scaled_centre); }
  // A response_deviation about the grand mean, in `unit`.
  double Centred(double deviation) const { return unit.Down(deviation) - scaled_centre; }
  // A residual sum of squares in unit², or 0 where it is no more than rounding: the model reproduces every response.
  double WithoutRounding(double residual_sum_sq) const;
};

// Rows enter when their trial is complete (or stopped early, if asked), the response is present and every one of
// `factors` has a level. InvalidArgument: no row is left; all responses are equal (to rounding).
absl::StatusOr<CellTable> BuildCellTable(const DataTable& data, std::vector<size_t> factors,
                                         bool include_stopped_early);

// Numbers the combinations of the factors' levels that occur 0, 1, … in order of first appearance. `cell_of_row` holds
// 0 for rows to look at, whose levels must all be there, and −1 for others, which keep it. Returns how many there are.
int64_t NumberCells(const DataTable& data, const std::vector<size_t>& factors, std::vector<int32_t>& cell_of_row);

// Whether a row enters an analysis of `factors`; counts the reason in `account` if not.
bool RowIsUsed(const DataTable& data, size_t row, const std::vector<size_t>& factors, bool include_stopped_early,
               SampleAccount& account);

}  // namespace loupe::analysis
