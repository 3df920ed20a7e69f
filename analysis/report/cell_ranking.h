// All cells from the best down, with intervals, and which of them the data cannot tell from the best.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/stats/anova.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/level_means.h"
#include "analysis/stats/linear_model.h"

namespace loupe::analysis::report {

// One cell with the interval of its mean, and whether the data can tell it from the best (Hsu's MCB).
struct RankedCell {
  std::vector<std::string> levels;
  int64_t n = 0;
  double mean = 0;
  double low = 0, high = 0;  // from the pooled error, at the analysis' confidence
  double best_high = 0;      // upper end of the simultaneous interval of (its mean − the best of the others), ≥ 0
  bool may_be_best = false;  // best_high > 0
};

struct CellRanking {
  std::string reason;  // why there is none; empty when there is
  // True: means are those of the cells themselves and the error is the spread among replicates of one cell (the
  // residual of cell + block). False: no cell is replicated, so means are the fitted model's predictions and the error
  // is its residual.
  bool from_replicates = false;
  double error_df = 0;
  std::vector<RankedCell> cells;  // best first
  int64_t may_be_best = 0;
};

// With the replicates' error s on df degrees of freedom, cell i may be the best if for every other j
//   ȳ_i − ȳ_j + d_i · s·√(1/n_i + 1/n_j) > 0     (Hsu 1984, Annals of Statistics 12:1136; signs turned where less is
//   better)
// where d_i is Dunnett's one-sided quantile with cell i as the control; cell means are independent, so its correlations
// have product form. For predictions of a model, which are correlated, Bonferroni's quantile takes its place.
CellRanking RankCells(const stats::DataTable& data, const stats::AnovaOptions& options,
                      const stats::LinearModel& fitted, const std::vector<std::string>& cell_factors,
                      const std::vector<stats::CellMean>& cells, bool smaller_is_better);

}  // namespace loupe::analysis::report
