// The most informative cells: of a sweep that is too large to run whole, and to add to one that has run.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/fraction.h"
#include "coordinator/plan/plan.h"

namespace loupe::cli {

// Cells that are searched: the exchange compares every pair of a chosen and a left-out cell.
inline constexpr int64_t kMaxCandidates = 5000;

struct Subset {
  // `chosen` holds cell numbers of the plan that was chosen from.
  analysis::stats::Fraction fraction;
  // That plan's spec with the chosen cells as its only selections: it runs exactly these.
  coordinator::plan::SweepSpec spec;
};

// Chooses `trials` / replicates cells of `plan` for the model `formula` (empty: main effects). INVALID_ARGUMENT: not a
// multiple of the replicates, more than there are, fewer than the model has parameters, or more than kMaxCandidates
// cells to choose from. The same plan, trials and formula give the same cells.
absl::StatusOr<Subset> ChooseSubset(const coordinator::plan::Plan& plan, int64_t trials, std::string_view formula);

// What became of one cell of a sweep that has ended.
struct CellOutcome {
  std::map<std::string, std::string> levels;  // as Plan::CellLevels
  int64_t results = 0;                        // trials with an accepted result
  int64_t failures = 0;                       // trials given up: failed or quarantined
};

struct Addition {
  Subset subset;                // numbers and spec are those of `all`
  coordinator::plan::Plan all;  // every legal cell of the design, whether chosen once or not
  int64_t run_cells = 0;
  std::vector<std::string> notes;  // whole sentences
};

// Chooses `trials` / replicates further cells of the design behind `source`, given those that have results: |XᵀX| of
// old and new together is made as large as possible. Cells that have run, and cells whose trials were given up, are not
// chosen. The spec keeps seed and replicates, so that a replicate of a new cell sees the random numbers that the same
// replicate of the old ones saw. Errors as ChooseSubset's; FAILED_PRECONDITION when no cell is left, or none has a
// result.
absl::StatusOr<Addition> ChooseAdditional(const coordinator::plan::Plan& source,
                                          const std::vector<CellOutcome>& outcomes, int64_t trials,
                                          std::string_view formula);

// The sweep file `text` with the selections of `spec` as its `only:` list. INVALID_ARGUMENT when it has one already, or
// when nothing can be appended to it.
absl::StatusOr<std::string> WithSelections(std::string_view text, const coordinator::plan::SweepSpec& spec);

}  // namespace loupe::cli
