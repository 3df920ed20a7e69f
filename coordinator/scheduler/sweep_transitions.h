// Which verb leads from which state of a sweep to which: the whole table.
#pragma once

#include "absl/status/statusor.h"
#include "coordinator/scheduler/model.h"

namespace loupe::coordinator::scheduler {

enum class SweepVerb { kPause, kResume, kStop, kCancel };

// The state after the verb; the same state when there is nothing to do (verbs are idempotent). FAILED_PRECONDITION says
// why it cannot be done.
absl::StatusOr<SweepState> Apply(SweepVerb verb, SweepState state);

const char* NameOf(SweepState state);
const char* NameOf(SweepVerb verb);

}  // namespace loupe::coordinator::scheduler
