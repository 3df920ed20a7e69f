// A table whose rows are told apart by their cell alone.
#pragma once

#include <string>
#include <vector>

#include "analysis/stats/data_table.h"

namespace loupe::analysis::report {

inline constexpr const char* kCellFactor = "cell";

// The table with all of `cell_factors` folded into one factor, kCellFactor, and `block` (may be empty) kept: its
// one-way model is the cell-means model, with as few columns as there are cells. Levels come in the order of their
// first row; CellName(levels) is how they are called.
stats::DataTable FoldCells(const stats::DataTable& data, const std::vector<std::string>& cell_factors,
                           const std::string& block);

// "CA_out, FFN_in, relu, 1".
std::string CellName(const std::vector<std::string>& levels);

}  // namespace loupe::analysis::report
