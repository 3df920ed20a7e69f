// Which points of a model an adjusted mean averages over, as a row of the model's columns.
//
// Without nested factors: all combinations of the levels that occur of every factor that is not held fixed, with equal
// weights (model_matrix.h's kAveraged). With factors nested in another (nesting.h): over the levels of the outer factor
// with equal weights, and within each over the settings of its own factors that occur, with equal weights again; a
// nested factor held fixed says at which level of the outer one. R's emmeans averages so where every combination of a
// level's own factors occurs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "Eigen/Core"
#include "analysis/stats/cell_table.h"
#include "analysis/stats/model_matrix.h"

namespace loupe::analysis::stats {

class ReferenceGrid {
 public:
  // Both must outlive this.
  ReferenceGrid(const CellTable& cells, const ModelMatrix& matrix);

  // `at`: per factor of the cells a level position, or ModelMatrix::kAveraged. Nullopt: no trial can be there, since a
  // nested factor does not exist at the level of the outer one.
  std::optional<Eigen::RowVectorXd> Row(const std::vector<int32_t>& at) const;

 private:
  // One level of the outer factor.
  struct Entry {
    std::vector<bool> owns;                      // per factor of the cells: nested in this level
    std::vector<std::vector<int32_t>> settings;  // level positions of all factors; those that are not its own averaged
  };

  const CellTable& cells_;
  const ModelMatrix& matrix_;
  std::optional<size_t> outer_;  // position; none: no factor is nested
  std::vector<Entry> entries_;   // per level of the outer factor
};

}  // namespace loupe::analysis::stats
