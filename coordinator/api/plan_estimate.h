// How long a plan would take, from what trials of the same kind took on this coordinator.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/api/backend.h"
#include "coordinator/plan/plan.h"

namespace loupe::coordinator::api {

// Nothing in it is assumed: where no trial of a kind has finished, the time is unknown.
struct PlanEstimate {
  // Of all trials, one after the other; 0 while unknown.
  double trial_seconds = 0;
  // Over the slots that are connected; unset while unknown, and while no worker is connected.
  std::optional<absl::Duration> duration;
  // Different GPUs among those workers.
  int64_t gpus = 0;
  // What it rests on, or why there is none: a sentence.
  std::string basis;
};

// Two trials are of one kind when they agree in the settings that cost time (kCostSettings in the source) but for
// budget.steps, and have run on the same kind of device. The median over finished trials with as many steps counts, or
// else that of all, the part that training took carried to the steps asked for. Looks at some hundred cells of the
// plan, and at the latest trials of the newest sweeps.
absl::StatusOr<PlanEstimate> EstimatePlan(const Backend& backend, const plan::Plan& plan);

}  // namespace loupe::coordinator::api
