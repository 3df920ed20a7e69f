// The order in which the coordinator will hand out a sweep's trials.
#pragma once

#include <cstdint>
#include <vector>

#include "coordinator/plan/plan.h"

namespace loupe::cli {

// Trial numbers in the order in which they are first offered: replicate by replicate, the cells of each in a random
// order that the sweep's seed fixes. The scheduler's own queue makes it (coordinator/scheduler/run_queue.h). Trials
// that come back (a lost worker, a retry) run before what is left of their replicate.
std::vector<int64_t> RunOrder(const coordinator::plan::Plan& plan);

}  // namespace loupe::cli
