// What the F tests assume, checked on the data and said in words.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/box_cox.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/group_tests.h"
#include "analysis/stats/normality.h"

namespace loupe::analysis::stats {

struct InfluentialCell {
  std::vector<std::string> levels;    // of the model's factors, in the model's order
  double largest_cooks_distance = 0;  // over its rows
  int64_t rows_above = 0;             // with Cook's D above the threshold
};

struct AssumptionReport {
  std::string normality_name;  // "Shapiro–Wilk" up to 5000 residuals, "Anderson–Darling" beyond
  NormalityTest normality;     // of the studentized residuals
  // Brown–Forsythe on the residuals over the cells that have at least two rows; empty where fewer than two such cells.
  std::optional<GroupTest> equal_spread;
  std::string equal_spread_by;               // the factors whose combinations are the groups
  double cooks_threshold = 0;                // 4/n
  std::vector<InfluentialCell> influential;  // the most influential first
  std::optional<BoxCoxResult> box_cox;       // empty where the response is not positive
  std::vector<std::string> sentences;        // one per check, in words, each with what to do
};

// Errors as FitAnova's.
absl::StatusOr<AssumptionReport> CheckAssumptions(const DataTable& data, const AnovaOptions& options);

}  // namespace loupe::analysis::stats
