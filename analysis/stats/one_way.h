// One-way analysis of variance, factor by factor, as the adapter design-space paper does it (arXiv 2303.18181):
//   F = MSB/MSW,  MSB = Σ n_g (ȳ_g − ȳ)²/(k − 1),  MSW = ΣΣ (y_gi − ȳ_g)²/(N − k).
// Each factor is taken alone: what it shares with a confounded factor is counted for both.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/wide_number.h"

namespace loupe::analysis::stats {

struct OneWayResult {
  std::string factor;
  double between_df = 0;
  WideNumber between_sum_sq, between_mean_sq;
  double within_df = 0;
  WideNumber within_sum_sq, within_mean_sq;  // 0 where every group's values are equal to rounding
  double f = 0, p = 0;                       // NaN then
  double r_squared = 0;
  double residual_sd = 0;
};

// From the values of each group; two-pass with a shifted origin, so that a large common offset does not cost digits.
// InvalidArgument: fewer than two groups, an empty group, a value that is not finite, no replication, all values equal.
absl::StatusOr<OneWayResult> OneWayAnova(const std::vector<std::vector<double>>& groups);

// The same for one factor of a table; rows that are missing or not complete are left out. Levels without rows are
// ignored.
absl::StatusOr<OneWayResult> OneWayAnova(const DataTable& data, std::string_view factor,
                                         bool include_stopped_early = false);

}  // namespace loupe::analysis::stats
