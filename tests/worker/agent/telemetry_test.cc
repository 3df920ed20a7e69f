// What a worker measures of itself.
#include "worker/agent/telemetry.h"

#include <gtest/gtest.h>

#include "tests/worker/agent/agent_fakes.h"
#include "worker/agent/gpu_monitor.h"

namespace loupe::worker::agent {
namespace {

class WorkingExecutor : public FakeExecutor {
 public:
  WorkingExecutor()
      : FakeExecutor(
            [](const executor::AttemptSpec&, executor::AttemptObserver&) { return executor::AttemptOutcome{}; }) {}
  executor::WorkDone Work() const override { return done; }
  executor::WorkDone done;
};

TEST(TelemetryTest, RatesAreThoseOfLate) {
  FakeClock clock;
  WorkingExecutor executor;
  executor.done = {.steps = 1000, .step_seconds = 500, .pictures = 10, .picture_seconds = 5};
  TelemetryReader reader(clock, executor, {"cpu"});
  v1::WorkerTelemetry telemetry = reader.Read();
  EXPECT_EQ(telemetry.steps(), 1000);
  EXPECT_EQ(telemetry.step_seconds(), 0) << "nothing has been done since the start";
  EXPECT_GT(telemetry.memory_bytes(), 1 << 20);
  EXPECT_GT(telemetry.cpu_seconds(), 0);
  EXPECT_EQ(telemetry.gpus_size(), 0);

  executor.done.steps += 4;
  executor.done.step_seconds += 2;
  clock.Advance(absl::Milliseconds(999));
  EXPECT_EQ(reader.Read().step_seconds(), 0) << "too short to say";
  clock.Advance(absl::Milliseconds(1));
  telemetry = reader.Read();
  EXPECT_DOUBLE_EQ(telemetry.step_seconds(), 0.5);
  EXPECT_DOUBLE_EQ(telemetry.step_seconds_sum(), 502);
  EXPECT_EQ(telemetry.pictures_per_second(), 0);

  executor.done.pictures += 8;
  executor.done.picture_seconds += 2;
  clock.Advance(absl::Seconds(2));
  telemetry = reader.Read();
  EXPECT_DOUBLE_EQ(telemetry.pictures_per_second(), 4);
  EXPECT_DOUBLE_EQ(telemetry.step_seconds(), 0.5) << "while nothing is trained the last figure stays";
}

// LOUPE_FAKE_NVML is both libraries in one: it has two GPUs, of which CUDA shows the second alone.
TEST(GpuMonitorTest, TellsOfTheProcessesOwnGpu) {
  const GpuMonitor monitor({"cpu", "cuda:0 NVIDIA H200"}, {.nvml = LOUPE_FAKE_NVML, .driver = LOUPE_FAKE_NVML});
  const std::vector<v1::GpuTelemetry> gpus = monitor.Read();
  ASSERT_EQ(gpus.size(), 1U);
  EXPECT_EQ(gpus[0].device(), "cuda:0 NVIDIA H200");
  EXPECT_EQ(gpus[0].memory_used_bytes(), 2'000'000'000);
  EXPECT_EQ(gpus[0].memory_total_bytes(), 80'000'000'000);
  EXPECT_DOUBLE_EQ(gpus[0].utilization(), 0.37);
}

TEST(GpuMonitorTest, IsSilentOfWhatItDoesNotKnow) {
  EXPECT_TRUE(GpuMonitor({"cuda:0 NVIDIA H200"}, {.nvml = "libnot-there.so.1"}).Read().empty());
  EXPECT_TRUE(GpuMonitor({"cuda:5"}, {.nvml = LOUPE_FAKE_NVML, .driver = LOUPE_FAKE_NVML}).Read().empty());
  // A library that lacks what is asked of it.
  EXPECT_TRUE(GpuMonitor({"cuda:0"}, {.nvml = "libc.so.6", .driver = "libc.so.6"}).Read().empty());
}

}  // namespace
}  // namespace loupe::worker::agent
