// What a design tells about differences between two levels of a factor, before any response exists.
//
// The F test of a factor has, for a difference δ (in σ) between two of its levels, at least the noncentrality δ²/v,
// with v the variance of the estimated difference in units of σ² (the other levels then lie where they help least;
// Searle 1971 §5.5). Balanced: v = 2·levels/n.
#pragma once

#include <vector>

#include "analysis/stats/model_reduction.h"

namespace loupe::analysis::stats {

struct PairInformation {
  int32_t first = 0, second = 0;  // level positions in the cell table, first < second
  bool estimable = false;
  double variance = 0;  // v; NaN when not estimable
};

// Every pair of levels of the single factor in model.terms()[term], tested after the terms `tested_after`, with the
// cells' own numbers of rows.
std::vector<PairInformation> ComparePairsOfLevels(const ModelMatrix& model, const CellTable& cells,
                                                  const Reduced& reduced, size_t term,
                                                  const std::vector<size_t>& tested_after);

}  // namespace loupe::analysis::stats
