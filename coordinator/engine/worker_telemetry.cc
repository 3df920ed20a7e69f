#include "coordinator/engine/worker_telemetry.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/text.h"

namespace loupe::coordinator::engine {
namespace {

constexpr size_t kMostNameBytes = 256;

// What is shown is a number, whoever sent it.
double Plain(double value) { return std::isfinite(value) && value > 0 ? value : 0; }
int64_t Plain(int64_t value) { return std::max<int64_t>(0, value); }

v1::WorkerTelemetry Cleaned(const v1::WorkerTelemetry& said) {
  v1::WorkerTelemetry clean;
  clean.set_memory_bytes(Plain(said.memory_bytes()));
  clean.set_cpu_seconds(Plain(said.cpu_seconds()));
  clean.set_busy_cores(Plain(said.busy_cores()));
  clean.set_steps(Plain(said.steps()));
  clean.set_step_seconds_sum(Plain(said.step_seconds_sum()));
  clean.set_pictures(Plain(said.pictures()));
  clean.set_picture_seconds_sum(Plain(said.picture_seconds_sum()));
  clean.set_step_seconds(Plain(said.step_seconds()));
  clean.set_pictures_per_second(Plain(said.pictures_per_second()));
  for (int i = 0; i < std::min(said.gpus_size(), WorkerTelemetryTable::kMostGpus); ++i) {
    const v1::GpuTelemetry& gpu = said.gpus(i);
    v1::GpuTelemetry& added = *clean.add_gpus();
    added.set_device(Shortened(Printable(gpu.device()), kMostNameBytes));
    added.set_memory_used_bytes(Plain(gpu.memory_used_bytes()));
    added.set_memory_total_bytes(Plain(gpu.memory_total_bytes()));
    if (gpu.has_utilization()) added.set_utilization(std::min(1.0, Plain(gpu.utilization())));
  }
  return clean;
}

std::vector<v1::RunningAttempt> AttemptsOf(const v1::SynchronizeRequest& request) {
  std::vector<v1::RunningAttempt> attempts;
  for (int i = 0; i < std::min(request.attempts_size(), WorkerTelemetryTable::kMostAttempts); ++i) {
    const v1::AttemptReport& report = request.attempts(i);
    if (report.outcome_case() != v1::AttemptReport::OUTCOME_NOT_SET) continue;
    v1::RunningAttempt& attempt = attempts.emplace_back();
    attempt.set_trial(Shortened(Printable(report.lease().trial()), kMostNameBytes));
    attempt.set_epoch(report.lease().epoch());
    attempt.set_phase(Shortened(Printable(report.phase()), kMostNameBytes));
    attempt.set_step(report.step());
    attempt.set_total_steps(report.total_steps());
    attempt.set_pack(std::max(0, report.pack()));
  }
  return attempts;
}

}  // namespace

void WorkerTelemetryTable::Note(const std::string& id, const v1::SynchronizeRequest& request, absl::Duration now) {
  Entry entry;
  WorkTotals done;
  if (request.has_telemetry()) {
    entry.telemetry = Cleaned(request.telemetry());
    done = {.steps = entry.telemetry->steps(),
            .step_seconds = entry.telemetry->step_seconds_sum(),
            .pictures = entry.telemetry->pictures(),
            .picture_seconds = entry.telemetry->picture_seconds_sum()};
  }
  entry.attempts = AttemptsOf(request);
  const std::lock_guard lock(mutex_);
  const auto [found, is_new] = workers_.try_emplace(id);
  Known& known = found->second;
  by_heard_.erase({known.heard, id});
  // What a process did before this coordinator heard of it, or a message that comes late, is not counted again.
  if (!is_new && known.session == request.session_id() && done.steps >= known.done.steps &&
      done.pictures >= known.done.pictures) {
    totals_.steps += done.steps - known.done.steps;
    totals_.step_seconds += std::max(0.0, done.step_seconds - known.done.step_seconds);
    totals_.pictures += done.pictures - known.done.pictures;
    totals_.picture_seconds += std::max(0.0, done.picture_seconds - known.done.picture_seconds);
  }
  known = {.entry = std::move(entry), .session = request.session_id(), .done = done, .heard = now};
  by_heard_.emplace(now, id);
  if (workers_.size() > kMostWorkers) {
    workers_.erase(by_heard_.begin()->second);
    by_heard_.erase(by_heard_.begin());
  }
}

std::optional<WorkerTelemetryTable::Entry> WorkerTelemetryTable::Of(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = workers_.find(id);
  if (found == workers_.end()) return std::nullopt;
  return found->second.entry;
}

WorkTotals WorkerTelemetryTable::Totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

}  // namespace loupe::coordinator::engine
