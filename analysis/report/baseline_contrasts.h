// Every cell against one that the reader names: "what does it gain over what we do now?"
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/comparisons.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/linear_model.h"

namespace loupe::analysis::report {

// Factor -> level.
using NamedCell = std::map<std::string, std::string>;

struct BaselineContrasts {
  std::vector<std::string> levels;  // of the baseline, in the order of the cell factors
  double mean = 0;                  // of the baseline
  // True: the error is the spread among replicates of one cell; false: no cell is replicated, so the contrasts are
  // those of the fitted model's predictions.
  bool from_replicates = false;
  // Cell less baseline, best cell first and those that are not estimable last; `first` names the cell. Simultaneous
  // intervals: Dunnett's, or Bonferroni's where the means' correlations have no product form (then p_dunnett is NaN;
  // read p_holm).
  std::vector<stats::Comparison> contrasts;
};

// INVALID_ARGUMENT: `baseline` does not name exactly one level of every cell factor, or a level that does not exist
// (the sentence lists what there is); more than 1000 cells. FAILED_PRECONDITION: the baseline cell has no result.
absl::StatusOr<BaselineContrasts> ContrastWithBaseline(const stats::DataTable& data, const stats::AnovaOptions& options,
                                                       const stats::LinearModel& fitted,
                                                       const std::vector<std::string>& cell_factors,
                                                       const NamedCell& baseline, bool smaller_is_better);

}  // namespace loupe::analysis::report
