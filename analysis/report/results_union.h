// Several sweeps of one design as one: a fraction and what was added to it later, or parts that ran apart.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/sweep_results.h"

namespace loupe::analysis::report {

// The first sweep's results with the trials of the others after its own. Trials and cells are numbered on; `notes` says
// where each sweep's begin, and where the sweeps differ in versions. Levels are matched by name; a factor's levels
// become the union, in the first sweep's order: sweeps of one design on a base each are that design with the base as a
// factor. Pictures and curves come along; baseline scores are of all trials, or the first sweep's that has them.
//
// INVALID_ARGUMENT, naming both sweeps: factors, fixed settings, or what a level of both sets differ; seeds differ
// (their replicates then saw different random numbers, so that they are not the same blocks); numbers of replicates
// differ; the same cell and replicate is in both (with one seed it is the same trial twice, not a second measurement).
// Precondition: at least one sweep.
absl::StatusOr<SweepResults> UniteResults(std::vector<SweepResults> sweeps);

}  // namespace loupe::analysis::report
