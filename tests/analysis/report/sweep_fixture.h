// A made-up sweep of the paper's design with a known truth: input matters most, scale some, activation little.
#pragma once

#include <cstdint>
#include <string>

#include "analysis/report/sweep_results.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis::report {

struct FixtureOptions {
  int32_t replicates = 2;
  bool with_failures = true;  // a few trials failed, one quarantined, two stopped early
  bool with_pictures = true;
  bool with_curves = true;
  uint64_t seed = 1;
};

// Neither pictures nor curves.
inline FixtureOptions Plain(int32_t replicates = 2) {
  return {.replicates = replicates, .with_pictures = false, .with_curves = false};
}

// 20 legal pairs × 4 activations × 4 scales × replicates, all terminal.
SweepResults MakeAdapterSweep(const FixtureOptions& options = {});

// The same sweep while it runs: only the first `finished` trials have ended, four run.
SweepResults MakeUnfinishedSweep(int64_t finished);

// A PNG of `size` × `size` pixels in a colour pattern that `seed` decides.
std::string MakePng(int size, uint64_t seed);

// Three cells of a factor "a" with three replicates each: means 1, 2.9 and 3, within sum of squares 0.06.
stats::DataTable ThreeCells();

}  // namespace loupe::analysis::report
