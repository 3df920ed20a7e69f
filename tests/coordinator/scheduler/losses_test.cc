// What a lost worker, a failure and a standstill cost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <variant>

#include "common/error_details.h"
#include "fmt/format.h"
#include "tests/coordinator/scheduler/scheduler_fixture.h"

namespace loupe::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(SchedulerTest, ALostWorkerCostsNoRetryButKLossesQuarantine) {
  RetryLimits limits;
  limits.max_worker_losses = 3;
  limits.max_trial_attempts = 1;
  Create("first", 1, 1, 0, limits);
  for (int loss = 1; loss <= 3; ++loss) {
    EXPECT_EQ(Counts("first").quarantined, 0);
    Lease(fmt::format("w{}", loss));
    Pass(absl::Seconds(30));
  }
  EXPECT_EQ(Counts("first").quarantined, 1);
  EXPECT_EQ(State("first"), SweepState::kCompleted);
}

TEST_F(SchedulerTest, ARetryableFailureWaitsOutItsBackOffWhichDoubles) {
  RetryLimits limits;
  limits.max_trial_attempts = 4;
  limits.backoff = absl::Seconds(10);
  Create("first", 1, 1, 0, limits);
  for (const int wait : {10, 20, 40}) {
    const DesiredAttempt attempt = Lease("a");
    Tell("a", attempt, Failure{FailureClass::kRetryable, "disk"});
    Pass(absl::Seconds(wait) - kTick);
    EXPECT_TRUE(Sync(Request("a")).desired.empty()) << wait;
    Pass(kTick);
  }
  Tell("a", Lease("a"), Failure{FailureClass::kRetryable, "disk"});
  EXPECT_EQ(Counts("first").failed, 1);
}

TEST_F(SchedulerTest, AUserErrorIsNotTriedAgainAndTheSweepGoesOn) {
  Create("first", 2);
  const DesiredAttempt attempt = Lease("a");
  const SyncAnswer answer = Tell("a", attempt, Failure{FailureClass::kUserError, "NaN loss"});
  EXPECT_EQ(Counts("first").failed, 1);
  ASSERT_EQ(answer.desired.size(), 1u);
  EXPECT_NE(answer.desired[0].trial, attempt.trial);
}

TEST_F(SchedulerTest, TooManyFailedTrialsPauseTheSweepWithAReason) {
  RetryLimits limits;
  limits.max_failed_trials = 2;
  Create("first", 4, 1, 0, limits);
  Tell("a", Lease("a"), Failure{FailureClass::kUserError, "x"});
  const SyncAnswer second = Sync(Request("a"));
  Tell("a", second.desired.at(0), Failure{FailureClass::kUserError, "x"});
  EXPECT_EQ(State("first"), SweepState::kPaused);
  EXPECT_THAT(scheduler_.View("first", now_)->record->state_reason, HasSubstr("2 trials failed"));
  EXPECT_TRUE(Sync(Request("a")).desired.empty());
}

TEST_F(SchedulerTest, AStandstillIsAFailureThoughTheWorkerIsAlive) {
  Create("first", 1);
  const DesiredAttempt attempt = Lease("a");
  for (int i = 0; i < 40; ++i) {
    Pass(absl::Seconds(15));
    EXPECT_TRUE(Tell("a", attempt, std::monostate{}).verdicts[0].status.ok());
  }
  Pass(kTick);
  const SyncAnswer answer = Tell("a", attempt, std::monostate{});
  EXPECT_EQ(ReasonOf(answer.verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(Counts("first").running, 0);
}

// Alive, and others come to its pack and go; its own step does not move.
TEST_F(SchedulerTest, PacksAreShownAndAreNoProgress) {
  Create("first", 1);
  const DesiredAttempt attempt = Lease("a");
  SyncRequest request = Request("a");
  request.attempts.push_back(ReportOf(attempt));
  for (int32_t beat = 1; beat <= 40; ++beat) {
    Pass(absl::Seconds(15));
    request.attempts[0].pack = 1 + beat % 4;
    EXPECT_TRUE(Sync(request).verdicts[0].status.ok());
    ASSERT_EQ(scheduler_.Running("first", now_).size(), 1u);
    EXPECT_EQ(scheduler_.Running("first", now_).front().pack, 1 + beat % 4);
  }
  Pass(kTick);
  EXPECT_EQ(ReasonOf(Sync(request).verdicts[0].status), kReasonLeaseLost);
}

TEST_F(SchedulerTest, AWorkerThatKeepsDyingIsSetAsideForAWhile) {
  RetryLimits limits;
  limits.max_worker_losses = 100;
  Create("first", 8, 1, 0, limits);
  for (int i = 0; i < 3; ++i) Sync(Request("a", fmt::format("s{}", i)));
  EXPECT_TRUE(Sync(Request("a", "s3")).desired.empty()) << "three losses";
  EXPECT_EQ(Sync(Request("b")).desired.size(), 1u);
  Pass(absl::Minutes(2));
  EXPECT_EQ(Sync(Request("a", "s3")).desired.size(), 1u);
}

TEST_F(SchedulerTest, AWorkerLongAwayIsForgotten) {
  const absl::Duration month = WorkerRules().forget_after;
  Create("first");
  Sync(Request("away"));
  const DesiredAttempt held = Lease("here");
  Sync(Request("waits"));
  scheduler_.Park("waits", now_);
  Pass(month - kTick);
  Tell("here", held, {});
  EXPECT_THAT(Names(), ElementsAre("away", "here", "waits"));
  effects_.clear();
  Pass(kTick);
  EXPECT_THAT(Names(), ElementsAre("here", "waits")) << "who is connected stays, however long it says nothing";
  ASSERT_EQ(std::count_if(effects_.begin(), effects_.end(),
                          [](const Effect& effect) { return std::holds_alternative<ForgetWorker>(effect); }),
            1);
  // Civil time that jumps costs nobody who is there anything.
  now_.wall += 100 * month;
  Pass(kTick);
  EXPECT_THAT(Names(), ElementsAre("here", "waits"));
  EXPECT_EQ(Counts("first").running, 1);
  Sync(Request("away"));
  EXPECT_THAT(Names(), ElementsAre("away", "here", "waits")) << "it comes back as a new one";
}

TEST_F(SchedulerTest, ManyNamesAreForgottenLongestAwayFirst) {
  const size_t most = WorkerRules().most_names;
  for (size_t i = 0; i < most + 5; ++i) {
    now_.wall += absl::Seconds(1);
    Sync(Request(fmt::format("w{:06}", most + 5 - i)));
  }
  Pass(kTick);
  EXPECT_EQ(Names().size(), most + 5) << "all were heard of within a lease";
  Pass(absl::Seconds(31));
  EXPECT_EQ(Names().size(), most);
  EXPECT_EQ(Names().back(), fmt::format("w{:06}", most));
}

TEST_F(SchedulerTest, WhenAWorkerWasHeardOfIsStoredDaily) {
  Sync(Request("a"));
  const auto stored = [&] {
    return std::count_if(effects_.begin(), effects_.end(), [&](const Effect& effect) {
      const auto* count = std::get_if<CountWorker>(&effect);
      return count != nullptr && count->last_seen == now_.wall;
    });
  };
  Pass(kSeenInterval - kTick);
  Sync(Request("a"));
  EXPECT_EQ(stored(), 0);
  Pass(kTick);
  Sync(Request("a"));
  EXPECT_EQ(stored(), 1);
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
