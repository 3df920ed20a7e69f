#include "cli/top_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/fake_clock.h"

namespace loupe::cli {
namespace {

v1::Worker Worker(const std::string& name, v1::Worker::State state, int64_t done) {
  v1::Worker worker;
  worker.set_name("workers/" + name);
  worker.set_state(state);
  worker.set_slots(2);
  worker.mutable_description()->set_device("cpu");
  worker.mutable_since_last_sync()->set_nanos(400'000'000);
  worker.set_trials_succeeded(done);
  return worker;
}

void Hold(v1::Worker& worker, const std::string& trial, int64_t step, const std::string& phase = "train") {
  worker.add_running("sweeps/cats/trials/" + trial);
  v1::RunningAttempt& attempt = *worker.add_attempts();
  attempt.set_trial("sweeps/cats/trials/" + trial);
  attempt.set_phase(phase);
  attempt.set_epoch(1);
  attempt.set_step(step);
  attempt.set_total_steps(50);
}

class TopScreenTest : public ::testing::Test {
 protected:
  // Two trials on gpu-1, of which the second is quicker; one idle worker and one that is lost.
  void Look(int64_t first, int64_t second) {
    v1::Worker gpu = Worker("gpu-1", v1::Worker::BUSY, 12);
    gpu.set_trials_failed(1);
    gpu.mutable_description()->set_device("cuda:0 NVIDIA H200");
    Hold(gpu, "7", first);
    Hold(gpu, "8", second);
    for (v1::RunningAttempt& attempt : *gpu.mutable_attempts()) attempt.set_pack(2);
    v1::Worker lost = Worker("cpu-2", v1::Worker::LOST, 30);
    lost.mutable_since_last_sync()->set_seconds(75);
    model_.Update({Worker("cpu-1", v1::Worker::IDLE, 3), lost, gpu}, clock_.MonotonicNow());
  }

  std::string Screen(TopOrder order, int width, int height, bool keys = false) {
    return "\n" + PlainText(TopScreen(model_, order, "", keys, width, height));
  }

  testing::FakeClock clock_;
  TopModel model_;
};

TEST_F(TopScreenTest, WorkersAndTheirTrials) {
  Look(10, 20);
  clock_.Advance(absl::Seconds(4));
  Look(14, 30);
  EXPECT_EQ(Screen(TopOrder::kWorker, 140, 20), R"(
3 workers  1 BUSY  1 IDLE  1 LOST  2 of 4 slots run  3.50 steps/s

worker      state     trial         phase   step             steps   seen       done+bad  pack  memory        use        device
cpu-1       IDLE                                                     0.4 s      3                                        cpu
cpu-2       LOST                                                     1 min 15 s 30                                       cpu
gpu-1       BUSY      cats/7        train   █░░░░░ 14/50     1.00/s  0.4 s      12+1      2                              cuda:0 NVIDIA H200
                      cats/8        train   ███░░░ 30/50     2.50/s
)");
  EXPECT_EQ(Screen(TopOrder::kLastSeen, 80, 7, /*keys=*/true), R"(
3 workers  1 BUSY  1 IDLE  1 LOST  2 of 4 slots run  3.50 steps/s

worker      state     trial         phase   step             steps   seen      …
cpu-2       LOST                                                     1 min 15 s…
cpu-1       IDLE                                                     0.4 s     …
and 1 more
q leaves, s sorts (by seen)
)");
}

TEST_F(TopScreenTest, SpeedIsOfTheTimeSinceTheStepChanged) {
  const std::string trial = "sweeps/cats/trials/7";
  Look(10, 0);
  EXPECT_LT(model_.StepsPerSecond(trial), 0);
  clock_.Advance(absl::Seconds(2));
  Look(10, 0);
  EXPECT_LT(model_.StepsPerSecond(trial), 0);
  clock_.Advance(absl::Seconds(2));
  Look(12, 0);
  EXPECT_DOUBLE_EQ(model_.StepsPerSecond(trial), 0.5);
  // A look that is too early changes nothing.
  clock_.Advance(absl::Seconds(1));
  Look(12, 0);
  EXPECT_DOUBLE_EQ(model_.StepsPerSecond(trial), 0.5);
  // And the next step is measured from where the last one was first seen.
  clock_.Advance(absl::Seconds(1));
  Look(13, 0);
  EXPECT_DOUBLE_EQ(model_.StepsPerSecond(trial), 0.5);
}

TEST_F(TopScreenTest, OrdersPutTheLargestFirst) {
  Look(10, 20);
  EXPECT_THAT(Screen(TopOrder::kDone, 140, 4), ::testing::HasSubstr("and 3 more"));
  EXPECT_THAT(Screen(TopOrder::kDone, 140, 20), ::testing::ContainsRegex("cpu-2 .*\ngpu-1 .*\n.*\ncpu-1 "));
}

TEST_F(TopScreenTest, TelemetryIsShownWhereThereIsSome) {
  v1::Worker gpu = Worker("gpu-1", v1::Worker::BUSY, 0), cpu = Worker("cpu-1", v1::Worker::BUSY, 0);
  Hold(gpu, "1", 5);
  Hold(cpu, "2", 5);
  gpu.mutable_telemetry()->set_step_seconds(0.25);
  v1::GpuTelemetry& device = *gpu.mutable_telemetry()->add_gpus();
  device.set_memory_used_bytes(12'300'000'000);
  device.set_memory_total_bytes(80'000'000'000);
  device.set_utilization(0.87);
  cpu.mutable_telemetry()->set_memory_bytes(1'720'000'000);
  cpu.mutable_telemetry()->set_busy_cores(1.94);
  model_.Update({gpu, cpu}, clock_.MonotonicNow());
  EXPECT_EQ(Screen(TopOrder::kWorker, 140, 20), R"(
2 workers  2 BUSY  2 of 4 slots run  4.00 steps/s

worker      state     trial         phase   step             steps   seen       done+bad  pack  memory        use        device
cpu-1       BUSY      cats/2        train   ░░░░░░ 5/50              0.4 s      0               1.72 GB       1.9 cores  cpu
gpu-1       BUSY      cats/1        train   ░░░░░░ 5/50      4.00/s  0.4 s      0               12/80.0 GB    87 % gpu   cpu
)");
}

TEST_F(TopScreenTest, NoSizeIsOverrun) {
  Look(10, 20);
  for (const int width : {1, 30, 80, 200}) {
    for (const int height : {1, 2, 3, 5, 50}) {
      const std::vector<StyledLine> lines = TopScreen(model_, TopOrder::kWorker, "no answer", true, width, height);
      EXPECT_EQ(lines.size(), static_cast<size_t>(height));
      for (const StyledLine& line : lines) EXPECT_LE(line.width(), width);
    }
  }
}

}  // namespace
}  // namespace loupe::cli
