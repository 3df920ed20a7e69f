// Whether the bases that a plan uses have what its trials ask of them, said before anything runs.
#pragma once

#include "absl/status/status.h"
#include "coordinator/plan/plan.h"

namespace loupe::cli {

// Looks at every cell's base that is on this machine; of others nothing is known here, and their workers will say.
// INVALID_ARGUMENT names the base and
//   a position of an adapter that no block of it has: a DiT has no cross-attention, a DiffuSSM no feed-forward either
//   a task of texts on a base whose prompts are classes, or of classes on one whose prompts are texts
//   a prompt that is no class of it
absl::Status CheckBases(const coordinator::plan::Plan& plan);

}  // namespace loupe::cli
