// The adapter design as plain statistics sees it: factors, levels and legal cells by number.
#pragma once

#include <utility>

#include "analysis/stats/fraction.h"

namespace loupe::analysis {

// The adapter design: 20 legal (input, output) pairs × 4 activations × 4 scales.
inline stats::Candidates AdapterCandidates() {
  stats::Candidates candidates;
  candidates.factors = {
      {"input", {"SA_in", "SA_out", "CA_in", "CA_c", "CA_out", "FFN_in", "FFN_out", "Trans_out", "Res_in", "Res_out"}},
      {"output", {"SA_in", "CA_in", "CA_c", "FFN_in", "Trans_out", "Res_in", "Res_out"}},
      {"activation", {"relu", "sigmoid", "silu", "identity"}},
      {"scale", {"0.5", "1", "2", "4"}}};
  const std::pair<int, int> pairs[] = {{0, 0}, {0, 1}, {0, 3}, {0, 4}, {1, 1}, {1, 3}, {1, 4}, {2, 1}, {2, 3}, {2, 4},
                                       {3, 2}, {4, 3}, {4, 4}, {5, 3}, {5, 4}, {6, 4}, {7, 4}, {8, 5}, {8, 6}, {9, 6}};
  for (const auto& [input, output] : pairs) {
    for (int activation = 0; activation < 4; ++activation) {
      for (int scale = 0; scale < 4; ++scale) candidates.cells.push_back({input, output, activation, scale});
    }
  }
  return candidates;
}

}  // namespace loupe::analysis
