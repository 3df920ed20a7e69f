// Means by two factors as blocks: the higher the block (and the lighter, where there are colours), the better.
#pragma once

#include <string>
#include <vector>

#include "cli/styled_line.h"
#include "cli/sweep_scores.h"

namespace loupe::cli {

struct HeatMapOptions {
  std::string title;
  bool smaller_is_better = false;
  int width = 80;
  // Lines in all, the two of the head included; at least 3.
  int height = 20;
};

// A head with the scale, the columns' levels, then a line per level of the rows. Columns have their means beside the
// blocks where all fit so, else the blocks alone; what fits neither way is counted. A pair without results is "··".
// Nothing where there are no results.
std::vector<StyledLine> HeatMap(const ScoreGrid& grid, const HeatMapOptions& options);

}  // namespace loupe::cli
