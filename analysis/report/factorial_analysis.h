// What is computed once and shown in every format: F tables, means, cells, diagnostics of one response.
//
// The CLI's `anova` command uses this and anova_format.h on a CSV file; report.h uses it on a sweep.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/model_details.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/group_tests.h"
#include "analysis/stats/level_means.h"
#include "analysis/stats/one_way.h"

namespace loupe::analysis::report {

struct AnalysisOptions {
  stats::AnovaOptions anova;
  bool smaller_is_better = false;  // decides which cell is called best
  // Factors of the heat map's rows and columns; empty: "input" and "output" if both exist, else the first two.
  std::string heat_map_rows, heat_map_columns;
  // Baseline cell (a level of every factor but the block), simple effects, contrasts.
  DetailQuestions questions;
  // On: data that are too few for an F table give an analysis without one, and `problem` says why (what a sweep that is
  // still running wants). Off: that is an error.
  bool allow_no_table = false;
};

// One factor alone, for when the one-way F's assumptions fail; empty where a test does not exist for these groups.
struct RobustTests {
  std::optional<stats::GroupTest> welch;           // unequal spread
  std::optional<stats::GroupTest> kruskal_wallis;  // no normality: ranks
};

struct FactorMeans {
  std::string factor;
  std::vector<stats::LevelMean> levels;
};

struct FactorialAnalysis {
  std::string response;
  bool smaller_is_better = false;
  double confidence = 0.95;
  stats::DataTable data;
  std::string problem;                       // why there is no F table; empty when there is one
  stats::AnovaTable anova;                   // empty terms when `problem` is set
  std::vector<stats::OneWayResult> one_way;  // per factor in table order, without the block; F is NaN where undefined
  std::vector<RobustTests> robust;           // the same factors
  std::vector<FactorMeans> means;            // the same factors
  bool has_heat_map = false;                 // false when there are fewer than two factors
  stats::TwoWayMeans heat_map;
  std::vector<std::string> cell_factors;        // names for CellMean::levels
  std::vector<stats::CellMean> cells;           // every combination that occurs, best first
  std::shared_ptr<const ModelDetails> details;  // null when there is no F table
  std::vector<std::string> notes;               // whole sentences for the reader
};

// InvalidArgument as FitAnova.
absl::StatusOr<FactorialAnalysis> AnalyseFactorial(stats::DataTable data, const AnalysisOptions& options);

}  // namespace loupe::analysis::report
