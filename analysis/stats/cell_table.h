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

namespace loupe::analysis::stats {

// A factor that exists at one level of another only (Factor::nested_in), in level positions of the cell table.
struct CellNesting {
  bool nested = false;
  size_t outer = 0;          // position of the factor that it is nested in
  int32_t outer_level = -1;  // the level at which it exists; −1 when no row has it
  int32_t absent = -1;       // its last level, which stands for all other rows; −1 when no row has it
};

struct CellTable {
  std::vector<size_t> factors;                    // indices into DataTable::factors, in the order asked for
  std::vector<std::vector<int32_t>> used_levels;  // per factor: original level codes that occur, ascending
  std::vector<std::vector<int32_t>> codes;        // per factor, per cell: index into used_levels
  std::vector<CellNesting> nesting;               // per factor; empty where none is nested
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
  // Without the one that stands for rows where the factor does not exist.
  size_t own_levels(size_t position) const { return levels(position) - (NestingOf(position).absent >= 0 ? 1 : 0); }
  CellNesting NestingOf(size_t position) const { return nesting.empty() ? CellNesting{} : nesting[position]; }
  // Whether `outer` is what another factor of `term` is nested in (all of them indices into the table's factors).
  bool IsImplied(size_t outer, const std::vector<size_t>& term) const;
  size_t PositionOf(size_t factor) const;  // in `factors`, of an index into the table's
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

}  // namespace loupe::analysis::stats
