// How a worker goes: in time, when there is nothing to do, and not before the coordinator knows.
#include "worker/agent/leave.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "fmt/format.h"
#include "tests/worker/agent/agent_fixture.h"

namespace loupe::worker::agent {
namespace {

constexpr absl::Duration kInstant = absl::Nanoseconds(1);
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

TEST(TimeLeftTest, ReadsLengthsAndPoints) {
  const std::pair<const char*, absl::Duration> kCases[] = {
      {"90m", absl::Minutes(90)},
      {"3h30m", absl::Minutes(210)},
      {"0s", absl::ZeroDuration()},
      {"45s", absl::Seconds(45)},
      // squeue's %L
      {"4:05", absl::Seconds(245)},
      {"1:00:00", absl::Hours(1)},
      {"2-12:00:00", absl::Hours(60)},
      {" 30:00\n", absl::Minutes(30)},
      {"UNLIMITED", absl::InfiniteDuration()},
      {"NOT_SET", absl::InfiniteDuration()},
      {"N/A", absl::InfiniteDuration()},
      {"", absl::InfiniteDuration()},
      {"INVALID", absl::ZeroDuration()},
      {"1800003600", absl::Hours(1)},
      {"1799999999", absl::ZeroDuration()},
      {"2027-01-15T08:00:10Z", absl::Seconds(10)},
      {"2027-01-15T09:00:10+01:00", absl::Seconds(10)},
  };
  for (const auto& [text, left] : kCases) {
    const absl::StatusOr<absl::Duration> read = TimeLeft(text, kNow);
    ASSERT_TRUE(read.ok()) << text << ": " << read.status();
    EXPECT_EQ(*read, left) << text;
  }
  // squeue's %e: local time without a zone.
  const std::string local = absl::FormatTime("%Y-%m-%dT%H:%M:%S", kNow + absl::Minutes(7), absl::LocalTimeZone());
  EXPECT_EQ(*TimeLeft(local, kNow), absl::Minutes(7));
}

TEST(TimeLeftTest, RefusesWhatCouldMeanTwoThings) {
  for (const char* text : {"60", "3600", "tomorrow", "-5m", "1-", "1:2:3:4", "4:xx", "12:-3", "2026-13-01T00:00:00"}) {
    EXPECT_EQ(TimeLeft(text, kNow).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(FinishWithinTest, LeavesAHalfOrHalfAMinute) {
  EXPECT_EQ(FinishWithin(absl::Seconds(20)), absl::Seconds(10));
  EXPECT_EQ(FinishWithin(absl::Seconds(60)), absl::Seconds(30));
  EXPECT_EQ(FinishWithin(absl::Minutes(10)), absl::Seconds(570));
}

class LeaveTest : public AgentFixture {
 protected:
  LeaveTest() : options_(Options()) {
    options_.hand_back = absl::Seconds(30);
    options_.least_work = absl::Minutes(1);
  }

  AgentOptions options_;
};

TEST_F(LeaveTest, HandsBackInTimeAndEndsWell) {
  FakeExecutor executor(
      [](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  options_.until = clock_.MonotonicNow() + absl::Minutes(5);
  Agent agent(options_, DepsFor(executor));
  absl::Duration last_wish;
  absl::Duration handed_back;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    const bool stopped = request.attempts_size() == 1 && request.attempts(0).stopped();
    if (stopped) {
      handed_back = clock_.MonotonicNow();
      return response;
    }
    if (handed_back == absl::ZeroDuration()) *response.add_attempts() = Desired(Lease("sweeps/s/trials/0"));
    if (request.attempts_size() == 1 && !request.draining()) last_wish = clock_.MonotonicNow();
    clock_.Advance(absl::Seconds(10));
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  // It was asked every ten seconds.
  EXPECT_GE(handed_back, options_.until - absl::Seconds(30));
  EXPECT_LT(handed_back, options_.until);
  EXPECT_GE(last_wish, options_.until - absl::Seconds(100)) << "it worked as long as it could";
  EXPECT_TRUE(client_.requests().back().draining());
}

TEST_F(LeaveTest, TakesNothingThatItCouldDoNothingFor) {
  for (const bool one_instant_more : {false, true}) {
    FakeExecutor executor(
        [](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
    options_.until = clock_.MonotonicNow() + absl::Seconds(90) + (one_instant_more ? kInstant : absl::ZeroDuration());
    Agent agent(options_, DepsFor(executor));
    bool first = true;
    client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
      if (std::exchange(first, false)) {
        EXPECT_EQ(request.draining(), !one_instant_more);
      }
      clock_.Advance(absl::Minutes(2));
      return Acknowledge(request);
    });
    EXPECT_TRUE(agent.Run().ok());
  }
}

TEST_F(LeaveTest, TakesATrialThatIsSeenToFit) {
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver&) {
    clock_.Advance(absl::Seconds(5));
    executor::AttemptOutcome outcome;
    outcome.kind = executor::AttemptOutcome::Kind::kSuccess;
    outcome.scores["clip_i"] = 1;
    return outcome;
  });
  options_.until = clock_.MonotonicNow() + absl::Minutes(5);
  Agent agent(options_, DepsFor(executor));
  int accepted = 0;
  bool waited = false;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    if (request.attempts_size() == 1 && request.attempts(0).has_success()) {
      ++accepted;
    } else if (accepted == 1 && !std::exchange(waited, true)) {
      // Six seconds before what runs is handed back: less than a minute, more than the five of a trial.
      clock_.Advance(options_.until - absl::Seconds(36) - clock_.MonotonicNow());
    } else if (!request.draining() || request.attempts_size() == 1) {
      // What it holds it is to go on with, though it has begun to leave.
      *response.add_attempts() = Desired(Lease("sweeps/s/trials/" + std::to_string(accepted)));
    }
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_EQ(accepted, 2);
}

TEST_F(LeaveTest, GivesBackATrialWithoutCheckpoints) {
  int ran = 0;
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver&) {
    ++ran;
    clock_.Advance(absl::Minutes(20));
    executor::AttemptOutcome outcome;
    outcome.kind = executor::AttemptOutcome::Kind::kSuccess;
    outcome.scores["clip_i"] = 1;
    return outcome;
  });
  options_.until = clock_.MonotonicNow() + absl::Minutes(35);
  Agent agent(options_, DepsFor(executor));
  bool first_ended = false;
  bool gave_back = false;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    for (const auto& report : request.attempts()) {
      first_ended |= report.has_success();
      gave_back |= report.stopped() && report.lease().trial() == "sweeps/s/trials/1";
    }
    if (gave_back) return response;
    auto& desired = *response.add_attempts();
    desired = Desired(Lease(first_ended ? "sweeps/s/trials/1" : "sweeps/s/trials/0"));
    (*desired.mutable_assignment()->mutable_settings())["train.checkpoint_every"] = "0";
    desired.mutable_lease_duration()->set_seconds(36000);
    return response;
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_TRUE(gave_back);
  EXPECT_EQ(ran, 1) << "15 minutes are left, and the first took 20";
}

TEST_F(LeaveTest, LeavesAfterItsIdleTimeAndNotBefore) {
  FakeExecutor executor(
      [](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  options_.until_idle = absl::Minutes(10);
  Agent agent(options_, DepsFor(executor));
  const absl::Duration steps[] = {absl::Minutes(10) - kInstant, kInstant};
  std::vector<bool> draining;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    draining.push_back(request.draining());
    if (draining.size() <= 2) clock_.Advance(steps[draining.size() - 1]);
    return Acknowledge(request);
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_THAT(draining, ::testing::ElementsAre(false, false, true));
}

// The coordinator gave it a trial in an answer that never arrived: unless it hears that the worker takes nothing, the
// trial waits for the end of the lease and counts as lost.
TEST_F(LeaveTest, DoesNotGoBeforeTheCoordinatorKnows) {
  FakeExecutor executor(
      [](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  Agent agent(options_, DepsFor(executor));
  int calls = 0;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) -> absl::StatusOr<v1::SynchronizeResponse> {
    if (++calls == 1) {
      agent.RequestDrain();
      return absl::CancelledError("interrupted; the answer had a trial");
    }
    EXPECT_TRUE(request.draining());
    if (calls == 2) return absl::UnavailableError("busy");
    return Acknowledge(request);
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_EQ(calls, 3);
}

// It would lose one trial after the other, each at once.
TEST_F(LeaveTest, AnExecutorOfNoUseCostsOneTrial) {
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver&) {
    executor.unable = true;
    return executor::AttemptOutcome{.failure_class = executor::FailureClass::kLost,
                                    .failure_message = "a part of it is gone"};
  });
  Agent agent(options_, DepsFor(executor));
  int given = 0;
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    const bool free = request.attempts().empty() || request.attempts(0).has_failure();
    if (!free) {
      *response.add_attempts() = Desired(request.attempts(0).lease());
    } else if (!request.draining() && given < 5) {
      *response.add_attempts() = Desired(Lease(fmt::format("sweeps/s/trials/{}", ++given)));
    }
    return response;
  });
  EXPECT_EQ(agent.Run(), absl::UnavailableError("a part of it is gone"));
  EXPECT_EQ(given, 1);
}

TEST_F(LeaveTest, AnIdleExecutorOfNoUseTakesNothing) {
  int ran = 0;
  FakeExecutor executor([&](const executor::AttemptSpec&, executor::AttemptObserver&) {
    ++ran;
    return executor::AttemptOutcome();
  });
  Agent agent(options_, DepsFor(executor));
  client_.SetAnswer([&](const v1::SynchronizeRequest& request) {
    auto response = Acknowledge(request);
    if (!request.draining()) {
      executor.unable = true;  // while the coordinator held the call
      *response.add_attempts() = Desired(Lease("sweeps/s/trials/1"));
    }
    return response;
  });
  EXPECT_EQ(agent.Run(), absl::UnavailableError("a part of it is gone"));
  EXPECT_EQ(ran, 0);
}

TEST_F(LeaveTest, GoesWithoutACoordinatorThatIsAway) {
  FakeExecutor executor(
      [](const executor::AttemptSpec&, executor::AttemptObserver& observer) { return RunUntilStopped(observer); });
  options_.farewell = absl::Seconds(5);
  Agent agent(options_, DepsFor(executor));
  int calls = 0;
  client_.SetAnswer([&](const v1::SynchronizeRequest&) -> absl::StatusOr<v1::SynchronizeResponse> {
    if (++calls == 1) agent.RequestDrain();
    clock_.Advance(absl::Seconds(1));
    return absl::UnavailableError("gone");
  });
  EXPECT_TRUE(agent.Run().ok());
  EXPECT_LE(calls, 8);
}

}  // namespace
}  // namespace loupe::worker::agent
