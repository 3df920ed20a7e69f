// An executor that trains nothing: its scores are a fixed function of cell, replicate and seed, so that a sweep that
// went through faults must end in exactly the numbers of one that did not.
#pragma once

#include <map>
#include <string>

#include "worker/executor/attempt.h"

namespace loupe::testing {

// The score of a cell at a replicate: a main effect per level, and noise that depends on cell, replicate and seed.
double FakeScore(const std::map<std::string, std::string>& cell, int64_t replicate, uint64_t sweep_seed);

struct FakeExecutorOptions {
  // How long an attempt takes; it looks whether to stop every few milliseconds.
  double seconds = 0;
  // Metric points per attempt.
  int points = 3;
  // Hands over "log.txt" and "samples.png" (a one-pixel picture).
  bool artifacts = true;
  // Share of attempts (by trial and epoch) that fail with a retryable error.
  double failure_rate = 0;
  // Cells with this level in any factor end the process, as a crash in a library would.
  std::string poison_level;
  // What it says it can run.
  worker::WorkerAbilities abilities;
};

// Thread-safe in the sense of Executor.
class FakeExecutor final : public worker::Executor {
 public:
  explicit FakeExecutor(const FakeExecutorOptions& options) : options_(options) {}
  worker::AttemptOutcome Run(const worker::AttemptSpec& spec, worker::AttemptObserver& observer) override;
  std::string DeviceDescription() const override { return "fake"; }
  worker::WorkerAbilities Abilities() const override { return options_.abilities; }

 private:
  const FakeExecutorOptions options_;
};

}  // namespace loupe::testing
