#include "worker/agent/agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <thread>
#include <utility>

#include "common/error_details.h"
#include "google/rpc/error_details.pb.h"
#include "tests/worker/agent/agent_fixture.h"

namespace loupe::worker::agent {
namespace {

executor::AttemptOutcome Success(double score) {
  executor::AttemptOutcome outcome;
  outcome.kind = executor::AttemptOutcome::Kind::kSuccess;
  outcome.scores["clip_i"] = score;
  return outcome;
}

using AgentTest = AgentFixture;

TEST_F(AgentTest, RunsWhatIsDesiredAndHandsInTheResult) {
  executor::AttemptSpec seen;
  FakeExecutor executor([&](const executor::AttemptSpec& spec, executor::AttemptObserver& observer) {
    seen = spec;
    EXPECT_TRUE(std::filesystem::is_directory(spec.scratch_folder));
    EXPECT_TRUE(std::filesystem::is_directory(spec.checkpoint_folder));
    observer.OnMetric("loss", 1, 0.25);
    EXPECT_TRUE(observer.OnArtifact("samples.png", "image/png", "p").ok());
    return Success(0.75);
  });
  Agent agent(Options(), DepsFor(executor));
  v1::AttemptReport last;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    for (const auto& report : request.attempts()) {
      if (report.has_success()) {
        last = report;
        agent.RequestDrain();
        return response;
      }
    }
    *response.add_attempts() = Desired(Lease("sweeps/s/trials/4", 3));
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_EQ(last.success().scores().at("clip_i"), 0.75);
  EXPECT_EQ(last.lease().epoch(), 3);
  EXPECT_EQ(client_.uploads(), std::vector<std::string>{"sweeps/s/trials/4:samples.png"});
  EXPECT_EQ(seen.trial, "sweeps/s/trials/4");
  EXPECT_EQ(seen.sweep_seed, 7u);
  EXPECT_EQ(seen.replicate, 2);
  EXPECT_EQ(seen.settings.Text("method.input"), "CA_out");
  EXPECT_FALSE(std::filesystem::exists(seen.scratch_folder));
  EXPECT_FALSE(std::filesystem::exists(seen.checkpoint_folder)) << "an accepted trial needs no checkpoints";
}

TEST_F(AgentTest, SaysWhatItCanRun) {
  FakeExecutor executor([](const executor::AttemptSpec&, executor::AttemptObserver&) { return Success(0); });
  executor.abilities = {.methods = {"adapter", "lora"},
                        .tasks = {"finetune"},
                        .bases = {"UNet2DConditionModel"},
                        .half_precisions = {"bf16"}};
  Agent agent(Options(), DepsFor(executor));
  v1::WorkerAbilities said;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    said = request.description().abilities();
    agent.RequestDrain();
    return v1::SynchronizeResponse();
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_EQ(said.settings_version(), settings::kSettingsVersion);
  EXPECT_THAT(said.methods(), ::testing::ElementsAre("adapter", "lora"));
  EXPECT_THAT(said.tasks(), ::testing::ElementsAre("finetune"));
  EXPECT_THAT(said.bases(), ::testing::ElementsAre("UNet2DConditionModel"));
  EXPECT_THAT(said.devices(), ::testing::ElementsAre("fake"));
  EXPECT_THAT(said.half_precisions(), ::testing::ElementsAre("bf16"));
}

TEST_F(AgentTest, ALeaseLostVerdictDropsTheAttempt) {
  // The executor's thread is joined by the agent's destructor: an attempt that is not stopped would hang the test.
  FakeExecutor executor(
      [&](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  Agent agent(Options(), DepsFor(executor));
  bool refused = false;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    v1::SynchronizeResponse response;
    if (request.attempts_size() == 0) {
      if (refused) {
        agent.RequestDrain();
      } else {
        *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
      }
      return response;
    }
    response = Acknowledge(request);
    response.mutable_verdicts(0)->mutable_status()->set_code(10);
    refused = true;
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  for (const auto& request : client_.requests()) {
    for (const auto& report : request.attempts()) EXPECT_FALSE(report.stopped()) << "a lost attempt reports nothing";
  }
}

TEST_F(AgentTest, AResultFromOtherFilesMakesItReadThemAnew) {
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver&) {
    executor::AttemptOutcome outcome;
    outcome.kind = executor::AttemptOutcome::Kind::kSuccess;
    return outcome;
  });
  Agent agent(Options(), DepsFor(executor));
  bool refused = false;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    v1::SynchronizeResponse response;
    if (request.attempts_size() == 0) {
      if (refused) {
        agent.RequestDrain();
      } else {
        *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
      }
      return response;
    }
    response = Acknowledge(request);
    if (!request.attempts(0).has_success()) return response;
    google::rpc::ErrorInfo info;
    info.set_reason(std::string(kReasonInputsDiffer));
    auto* status = response.mutable_verdicts(0)->mutable_status();
    status->set_code(10);
    status->set_message("the files of 'scorer /a' differ");
    status->add_details()->PackFrom(info);
    refused = true;
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_EQ(executor.times_read_anew, 1);
}

TEST_F(AgentTest, AnAttemptMissingFromTheAnswerIsDropped) {
  FakeExecutor executor(
      [&](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  Agent agent(Options(), DepsFor(executor));
  int rounds = 0;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    if (++rounds == 1) *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
    if (rounds == 3) {
      EXPECT_EQ(request.attempts_size(), 0);
      agent.RequestDrain();
    }
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_EQ(rounds, 4) << "the last one says that it leaves";
}

TEST_F(AgentTest, StopsByItselfWhenTheLeaseCannotBeRenewed) {
  // The executor's thread is joined by the agent's destructor: an attempt that is not stopped would hang the test.
  FakeExecutor executor(
      [&](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  Agent agent(Options(), DepsFor(executor));
  int away = 0;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) -> absl::StatusOr<v1::SynchronizeResponse> {
    v1::SynchronizeResponse response;
    if (away == 0 && request.attempts_size() == 0) {
      *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
      return response;
    }
    if (++away < 5) {
      clock_.Advance(absl::Seconds(9));  // 27 s of 30 s are usable: the third silence ends it
      return absl::UnavailableError("gone");
    }
    EXPECT_EQ(request.attempts_size(), 0);
    agent.RequestDrain();
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
}

// A machine that stood still longer than the lease, and a coordinator that did so too: the lease is alive after all,
// and the points of the run that goes on are no repetitions of the first ones.
TEST_F(AgentTest, ALeaseFoundAliveNumbersItsPointsOn) {
  std::atomic<int> runs{0};
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver& observer) {
    const int run = ++runs;
    observer.OnMetric("loss", run, run);
    if (run == 1) return RunUntilStopped(observer);
    return Success(0.5);
  });
  Agent agent(Options(), DepsFor(executor));
  int64_t stored = 0;
  bool stood_still = false;
  std::vector<int64_t> steps;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) -> absl::StatusOr<v1::SynchronizeResponse> {
    v1::SynchronizeResponse response;
    bool ended = false;
    for (const auto& report : request.attempts()) {
      // As the coordinator counts: what is not numbered after the last stored point is a repetition.
      for (int i = 0; i < report.points_size(); ++i) {
        const int64_t number = report.point_sequence() - report.points_size() + i + 1;
        if (number <= stored) continue;
        stored = number;
        steps.push_back(report.points(i).step());
      }
      response.add_verdicts()->set_acknowledged_point_sequence(stored);
      ended |= report.has_success();
    }
    if (ended) {
      agent.RequestDrain();
    } else {
      *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
      // Once: the second run may start later than the next call, and would lose its lease too.
      if (stored == 1 && !std::exchange(stood_still, true)) clock_.Advance(absl::Seconds(60));
    }
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2}));
}

TEST_F(AgentTest, ToldToStopItReportsStopped) {
  FakeExecutor executor(
      [&](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  Agent agent(Options(), DepsFor(executor));
  bool stopped = false;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    if (request.attempts_size() == 1 && request.attempts(0).stopped()) {
      stopped = true;
      agent.RequestDrain();
      return response;
    }
    auto desired = Desired(Lease("sweeps/s/trials/0"));
    desired.set_stop(request.attempts_size() == 1);
    *response.add_attempts() = desired;
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_TRUE(stopped);
}

TEST_F(AgentTest, DrainingFinishesWhatRunsAndTakesNothingNew) {
  std::promise<void> go;
  FakeExecutor executor([&, gate = go.get_future().share()](const executor::AttemptSpec&, executor::AttemptObserver&) {
    gate.wait();
    return Success(1);
  });
  Agent agent(Options(), DepsFor(executor));
  int rounds = 0;
  bool accepted = false;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    if (++rounds == 2) agent.RequestDrain();
    if (rounds == 3) {
      EXPECT_TRUE(request.draining());
      go.set_value();
    }
    if (request.attempts_size() == 1 && request.attempts(0).has_success()) {
      accepted = true;
      *response.add_attempts() = Desired(Lease("sweeps/s/trials/1"));
    } else {
      *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
    }
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_TRUE(accepted);
}

TEST_F(AgentTest, ShuttingDownStopsPolitely) {
  FakeExecutor executor(
      [&](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  Agent agent(Options(), DepsFor(executor));
  int rounds = 0;
  bool stopped = false;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    if (++rounds == 2) agent.RequestStop();
    if (request.attempts_size() == 1 && request.attempts(0).stopped()) {
      stopped = true;
    } else {
      *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
    }
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_TRUE(stopped);
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/checkpoints/sweeps/s/trials/0")) << "it may come back here";
}

TEST_F(AgentTest, ShuttingDownWithoutACoordinatorEndsAfterTheFarewell) {
  FakeExecutor executor(
      [&](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  Agent agent(Options(), DepsFor(executor));
  int rounds = 0;
  client_.SetAnswer([&](const v1::SynchronizeRequest&) -> absl::StatusOr<v1::SynchronizeResponse> {
    v1::SynchronizeResponse response;
    if (++rounds == 1) {
      *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
      return response;
    }
    if (rounds == 2) agent.RequestStop();
    clock_.Advance(absl::Seconds(1));
    return absl::UnavailableError("gone");
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_LE(rounds, 10);
}

TEST_F(AgentTest, ASupersededSessionEndsWithAnErrorThatSaysSo) {
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver&) { return Success(1); });
  Agent agent(Options(), DepsFor(executor));
  client_.SetAnswer([&](const v1::SynchronizeRequest&) -> absl::StatusOr<v1::SynchronizeResponse> {
    return WithReason(absl::AbortedError("superseded"), kReasonSessionSuperseded);
  });
  const absl::Status status = agent.Run();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("--id"), absl::string_view::npos);
}

TEST_F(AgentTest, ARefusedTokenIsNotTriedForEver) {
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver&) { return Success(1); });
  Agent agent(Options(), DepsFor(executor));
  client_.SetAnswer([&](const v1::SynchronizeRequest&) -> absl::StatusOr<v1::SynchronizeResponse> {
    return absl::UnauthenticatedError("no");
  });
  EXPECT_EQ(agent.Run().code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(AgentTest, ATokenThatEndsInTheMiddleOfATrialDoesNotLoseItsResult) {
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver&) { return Success(1); });
  Agent agent(Options(), DepsFor(executor));
  int refused = 0;
  bool accepted = false;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) -> absl::StatusOr<v1::SynchronizeResponse> {
    const bool has_result = request.attempts_size() == 1 && request.attempts(0).has_success();
    if (has_result && refused < 3) {
      ++refused;
      return absl::UnauthenticatedError("the token has expired");
    }
    accepted |= has_result;
    auto response = Acknowledge(request);
    if (accepted) {
      agent.RequestDrain();
    } else {
      *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
    }
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_EQ(refused, 3);
  EXPECT_TRUE(accepted);
}

TEST_F(AgentTest, SettingsThatThisVersionDoesNotKnowAreAUserError) {
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver&) { return Success(1); });
  Agent agent(Options(), DepsFor(executor));
  v1::Failure failure;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    if (request.attempts_size() == 1) {
      failure = request.attempts(0).failure();
      agent.RequestDrain();
      return response;
    }
    auto desired = Desired(Lease("sweeps/s/trials/0"));
    (*desired.mutable_assignment()->mutable_settings())["method.flavour"] = "x";
    *response.add_attempts() = desired;
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_EQ(failure.class_(), v1::Failure::USER_ERROR);
  EXPECT_NE(failure.message().find("method.flavour"), std::string::npos);
}

}  // namespace
}  // namespace loupe::worker::agent
