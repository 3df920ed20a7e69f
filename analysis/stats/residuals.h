// Residuals, leverage and influence of a fitted model, row by row and cell by cell.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/stats/linear_model.h"

namespace loupe::analysis::stats {

struct ResidualRow {
  size_t row = 0;  // of the table
  double fitted = 0;
  double residual = 0;        // e = y − ŷ
  double leverage = 0;        // h = x(XᵀX)⁻xᵀ
  double studentized = 0;     // internally: e/(s√(1 − h)); NaN when h = 1 or s = 0
  double cooks_distance = 0;  // e² h/(rank·s²·(1 − h)²) (Cook 1977, Technometrics 19:15); NaN as above
};

// One entry per used row, in row order.
std::vector<ResidualRow> ComputeResiduals(const LinearModel& model);

}  // namespace loupe::analysis::stats
