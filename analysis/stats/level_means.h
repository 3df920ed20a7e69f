// Plain means: per level of a factor and per combination of two factors. What was observed, not adjusted for imbalance;
// for adjusted ones see marginal_means.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

struct LevelMean {
  std::string level;
  int64_t n = 0;
  double mean = 0;
  double sd = 0;             // NaN when n < 2
  double std_error = 0;      // sd/√n; NaN when n < 2
  double low = 0, high = 0;  // mean ± t(n − 1)·std_error at the asked confidence; NaN when n < 2
};

// One entry per level of `factor`, in level order; levels without rows have n = 0 and NaN means. NotFound: no such
// factor.
absl::StatusOr<std::vector<LevelMean>> LevelMeans(const DataTable& data, std::string_view factor,
                                                  double confidence = 0.95, bool include_stopped_early = false);

// Means of every combination of `rows` × `columns`; n == 0 marks a combination that does not occur (an illegal pair).
struct TwoWayMeans {
  std::string row_factor, column_factor;
  std::vector<std::string> row_levels, column_levels;
  std::vector<LevelMean> cells;  // row-major; `level` is "row × column"
  const LevelMean& At(size_t row, size_t column) const { return cells[row * column_levels.size() + column]; }
};
absl::StatusOr<TwoWayMeans> ComputeTwoWayMeans(const DataTable& data, std::string_view row_factor,
                                               std::string_view column_factor, double confidence = 0.95,
                                               bool include_stopped_early = false);

// Every combination of all `factors` that occurs, best (largest mean) first; ties in level order.
struct CellMean {
  std::vector<std::string> levels;  // one per factor asked for
  LevelMean mean;
};
absl::StatusOr<std::vector<CellMean>> CellMeans(const DataTable& data, const std::vector<std::string>& factors,
                                                double confidence = 0.95, bool include_stopped_early = false);

}  // namespace loupe::analysis::stats
