// Why a term has fewer degrees of freedom than its levels promise: empty cells, or aliasing with other terms.
#pragma once

#include <string>
#include <vector>

#include "Eigen/Core"
#include "analysis/stats/data_table.h"
#include "analysis/stats/model_matrix.h"
#include "analysis/stats/model_reduction.h"

namespace loupe::analysis::stats {

struct Estimability {
  Eigen::Index lost_to_empty_cells = 0;  // combinations of the term's own factors that never occur
  Eigen::Index lost_to_aliasing = 0;     // directions shared with the terms it is tested after
  std::vector<size_t> partners;          // indices of those terms, the simplest ones first
  std::string note;                      // whole sentences; empty when nothing is lost
};

// `tested_after`: indices of the terms in the model when `term` is tested; `df`: what was left to test.
Estimability ExplainLostDegrees(const DataTable& data, const CellTable& cells, const ModelMatrix& model,
                                const ModelReduction& reduction, size_t term, const std::vector<size_t>& tested_after,
                                Eigen::Index df);

// Groups of levels of two factors that never meet across groups ("connectedness", Searle 1971 §7.4): with more than one
// group, differences between groups cannot be given to either factor. `first` and `second` are positions in
// cells.factors.
struct ConnectedLevels {
  size_t groups = 0;
  std::vector<size_t> first, second;  // per level position: its group, numbered by first appearance
};
ConnectedLevels ConnectLevels(const CellTable& cells, size_t first, size_t second);

// The same by name; `first` and `second` are indices into data.factors. Each entry lists first's and second's level
// names.
struct LevelGroup {
  std::vector<std::string> first_levels, second_levels;
};
std::vector<LevelGroup> ConnectedLevelGroups(const DataTable& data, const CellTable& cells, size_t first,
                                             size_t second);

}  // namespace loupe::analysis::stats
