// What a worker says of itself with each message: the process, its devices, and how fast its trials go.
#pragma once

#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "loupe/v1/worker.pb.h"
#include "worker/agent/gpu_monitor.h"
#include "worker/executor/attempt.h"

namespace loupe::worker::agent {

// Not thread-safe. Clock and executor outlive it.
class TelemetryReader {
 public:
  TelemetryReader(const Clock& clock, const executor::Executor& executor, const std::vector<std::string>& devices);

  // As of now. "Of late" is since the reading before, if that is a second ago or more, and something was done since.
  v1::WorkerTelemetry Read();

 private:
  const Clock& clock_;
  const executor::Executor& executor_;
  const GpuMonitor gpus_;
  // As of the start of what is "of late", and what was found then.
  absl::Duration since_;
  double cpu_seconds_ = 0;
  executor::WorkDone work_;
  double busy_cores_ = 0;
  double step_seconds_ = 0;
  double pictures_per_second_ = 0;
};

}  // namespace loupe::worker::agent
