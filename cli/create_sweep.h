// Handing a planned sweep to the coordinator.
#pragma once

#include "absl/status/statusor.h"
#include "clients/rpc/connection.h"
#include "common/ids.h"
#include "coordinator/plan/plan.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::cli {

struct CreateSweepOptions {
  // Go on with a sweep of that name if it has the same design, instead of ALREADY_EXISTS.
  bool exist_ok = false;
  // Let the coordinator check it and keep nothing: the answer then has a name, cells and trials only.
  bool validate_only = false;
};

// Creates the sweep `id` and returns it. The coordinator's notes on the plan go to standard error. ALREADY_EXISTS says
// whether the sweep of that name has the same design, and what to do; INVALID_ARGUMENT carries field violations.
absl::StatusOr<v1::Sweep> CreateSweep(const clients::rpc::Connection& connection, const SweepId& id,
                                      const coordinator::plan::Plan& plan, const CreateSweepOptions& options);

}  // namespace loupe::cli
