#include "worker/agent/telemetry.h"

#include "common/process_use.h"

namespace loupe::worker::agent {
namespace {

// Figures over less are more noise than news.
constexpr absl::Duration kLeastSpan = absl::Seconds(1);

}  // namespace

TelemetryReader::TelemetryReader(const Clock& clock, const executor::Executor& executor,
                                 const std::vector<std::string>& devices)
    : clock_(clock),
      executor_(executor),
      gpus_(devices),
      since_(clock.MonotonicNow()),
      cpu_seconds_(ProcessCpuSeconds()),
      work_(executor.Work()) {}

v1::WorkerTelemetry TelemetryReader::Read() {
  const absl::Duration now = clock_.MonotonicNow();
  const double cpu_seconds = ProcessCpuSeconds();
  const executor::WorkDone work = executor_.Work();
  if (const absl::Duration span = now - since_; span >= kLeastSpan) {
    busy_cores_ = (cpu_seconds - cpu_seconds_) / absl::ToDoubleSeconds(span);
    if (work.steps > work_.steps) {
      step_seconds_ = (work.step_seconds - work_.step_seconds) / static_cast<double>(work.steps - work_.steps);
    }
    if (work.pictures > work_.pictures && work.picture_seconds > work_.picture_seconds) {
      pictures_per_second_ =
          static_cast<double>(work.pictures - work_.pictures) / (work.picture_seconds - work_.picture_seconds);
    }
    since_ = now;
    cpu_seconds_ = cpu_seconds;
    work_ = work;
  }
  v1::WorkerTelemetry telemetry;
  telemetry.set_memory_bytes(ResidentBytes());
  telemetry.set_cpu_seconds(cpu_seconds);
  telemetry.set_busy_cores(busy_cores_);
  telemetry.set_steps(work.steps);
  telemetry.set_step_seconds_sum(work.step_seconds);
  telemetry.set_pictures(work.pictures);
  telemetry.set_picture_seconds_sum(work.picture_seconds);
  telemetry.set_step_seconds(step_seconds_);
  telemetry.set_pictures_per_second(pictures_per_second_);
  for (v1::GpuTelemetry& gpu : gpus_.Read()) *telemetry.add_gpus() = std::move(gpu);
  return telemetry;
}

}  // namespace loupe::worker::agent
