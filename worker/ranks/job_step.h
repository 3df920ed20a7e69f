// The tasks of one job step of Slurm as a worker and its ranks: task 0 is the worker, task r hosts rank r of its
// trials.
//
// Task 0 listens and writes a file that all tasks see: its addresses, its port and a fresh secret, readable by their
// user alone. Whoever connects proves that it has read the file (HMAC-SHA256 over both sides' random numbers; the
// secret is never sent) and task 0 proves the same; nobody else is listened to. Over such connections hosts are told to
// start and to end ranks, and ranks find each other. What they then say to each other (Gloo, NCCL) is not encrypted.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace loupe::worker::ranks {

// Where this process stands in its step, as Slurm says in its environment.
struct StepPlace {
  std::string file;
  int task = 0;
  int tasks = 1;
  int nodes = 1;
  int local = 0;  // among the tasks of its node

  // FAILED_PRECONDITION outside of a job step.
  static absl::StatusOr<StepPlace> OfThisTask(const std::string& file);
};

class StepHub;  // step_hub.h

// Task 0's: for its trials' ranks; the other tasks end well with it. INTERNAL when it cannot listen or write the file.
absl::StatusOr<std::shared_ptr<StepHub>> OpenStep(const StepPlace& place);

// A host: until task 0 ends. `program` has the sub-command `rank`. OK when task 0 said goodbye; UNAVAILABLE when it is
// gone without, or cannot be found within the patience.
absl::Status HostRank(const StepPlace& place, const std::string& program, const std::string& device,
                      std::chrono::milliseconds patience = std::chrono::minutes(5));

}  // namespace loupe::worker::ranks
