// What the agent's tests have in common: an agent, or an attempt that it holds, between the fakes.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "tests/worker/agent/agent_fakes.h"
#include "worker/agent/agent.h"
#include "worker/agent/held_attempt.h"

namespace loupe::worker::agent {

// Blocks until it is told to stop.
inline executor::AttemptOutcome RunUntilStopped(executor::AttemptObserver& observer) {
  while (!observer.ShouldStop()) std::this_thread::yield();
  executor::AttemptOutcome outcome;
  outcome.kind = executor::AttemptOutcome::Kind::kStopped;
  return outcome;
}

class AgentFixture : public ::testing::Test {
 protected:
  AgentFixture() {
    folder_ = ::testing::TempDir() + "agent_test_" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
  }
  ~AgentFixture() override { std::filesystem::remove_all(folder_); }

  Agent::Deps DepsFor(executor::Executor& executor) { return {&client_, &executor, &clock_, &random_}; }
  AgentOptions Options() const {
    AgentOptions options;
    options.worker = "workers/w";
    options.data_folder = folder_;
    options.backoff = {absl::Microseconds(10), absl::Microseconds(100)};
    return options;
  }

  std::string folder_;
  FakeClock clock_;
  CountingRandom random_;
  FakeCoordinatorClient client_;
};

// An attempt on a lease of ten seconds.
class HeldAttemptFixture : public ::testing::Test {
 protected:
  HeldAttempt Make() {
    return HeldAttempt(Lease("sweeps/s/trials/0"),
                       {.client = &client_,
                        .clock = &clock_,
                        .random = &random_,
                        .upload_timeout = absl::Seconds(1),
                        .backoff = {absl::Microseconds(1), absl::Microseconds(2)},
                        .on_finished = [this] { ++finished_; }},
                       clock_.MonotonicNow(), absl::Seconds(10));
  }
  FakeClock clock_;
  CountingRandom random_;
  FakeCoordinatorClient client_;
  int finished_ = 0;
};

}  // namespace loupe::worker::agent
