// How long trials on the same base took on a coordinator: the better half of a time estimate, once any have run.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "clients/rpc/connection.h"
#include "coordinator/plan/plan.h"

namespace loupe::cli {

// Looked at: this many of the newest sweeps, and trials of each.
inline constexpr int kHistorySweeps = 20;
inline constexpr int kHistoryTrials = 1000;

struct TrialHistory {
  // Median over the trials; 0 when there are none.
  double seconds_per_pass = 0;
  int64_t trials = 0;
  int64_t sweeps = 0;
  // Workers that are up, the trials that they can run at once, and how many have units for products in bf16.
  int64_t workers = 0;
  int64_t slots = 0;
  int64_t bf16_workers = 0;
};

// From the sweeps of the coordinator whose fixed base is that of `plan`: time from start to end of each trial's
// accepted attempt over its NetworkPasses (cost_estimate.h). Trials of another task or method count too: what differs
// between them is in the passes. UNAVAILABLE when nobody answers within `patience`.
absl::StatusOr<TrialHistory> ReadTrialHistory(const clients::rpc::Connection& connection,
                                              const coordinator::plan::Plan& plan, absl::Duration patience);

}  // namespace loupe::cli
