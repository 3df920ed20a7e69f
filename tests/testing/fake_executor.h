// An executor that trains nothing: its scores are a fixed function of cell, replicate and seed, so that a sweep that
// went through faults must end in exactly the numbers of one that did not.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "worker/executor/attempt.h"

namespace loupe::testing {

// The score of a cell at a replicate: a main effect per level, and noise that depends on cell, replicate and seed.
double FakeScore(const std::map<std::string, std::string>& cell, int64_t replicate, uint64_t sweep_seed);

struct FakeExecutorOptions {
  // How long an attempt takes; it looks whether to stop every few milliseconds.
  double seconds = 0;
  // Metric points per attempt.
  int points = 3;
  // Hands over "log.txt" and the pictures of a trial, of one pixel each.
  bool artifacts = true;
  // Share of attempts (by trial and epoch) that fail with a retryable error.
  double failure_rate = 0;
  // Cells with this level in any factor end the process, as a crash in a library would.
  std::string poison_level;
  // What it says it can run.
  worker::executor::WorkerAbilities abilities;
  // Lines that every attempt logs at its start.
  std::vector<std::string> log;
};

// Thread-safe in the sense of Executor.
class FakeExecutor final : public worker::executor::Executor {
 public:
  explicit FakeExecutor(const FakeExecutorOptions& options) : options_(options) {}
  worker::executor::AttemptOutcome Run(const worker::executor::AttemptSpec& spec,
                                       worker::executor::AttemptObserver& observer) override;
  std::string DeviceDescription() const override { return "fake"; }
  worker::executor::WorkerAbilities Abilities() const override { return options_.abilities; }
  // A step of a tenth of a second for each point.
  worker::executor::WorkDone Work() const override {
    const int64_t steps = steps_;
    return {.steps = steps, .step_seconds = 0.1 * static_cast<double>(steps), .pictures = 0, .picture_seconds = 0};
  }

 private:
  const FakeExecutorOptions options_;
  std::atomic<int64_t> steps_{0};
};

}  // namespace loupe::testing
