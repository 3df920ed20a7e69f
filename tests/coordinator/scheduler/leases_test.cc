// Who holds a trial, and whose result counts; also after a restart.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <variant>

#include "common/error_details.h"
#include "common/sha256.h"
#include "tests/coordinator/scheduler/scheduler_fixture.h"

namespace loupe::coordinator::scheduler {
namespace {

using ::testing::HasSubstr;

TEST_F(SchedulerTest, ALeaseLivesThroughItsLastNanosecondAndNoLonger) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  Pass(absl::Seconds(30) - kTick);
  EXPECT_EQ(Counts("first").running, 1);
  Pass(kTick);
  EXPECT_EQ(Counts("first").running, 0);
  const SyncAnswer late = Tell("a", attempt, Result{{{"s", 1.0}}});
  EXPECT_EQ(ReasonOf(late.verdicts[0].status), kReasonLeaseLost);
}

TEST_F(SchedulerTest, AReportRenewsTheLeaseForAFullTerm) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  Pass(absl::Seconds(29));
  Tell("a", attempt, std::monostate{});
  Pass(absl::Seconds(30) - kTick);
  EXPECT_EQ(Counts("first").running, 1);
}

TEST_F(SchedulerTest, AnExpiredLeaseIsReofferedWithAHigherEpochAndAnotherToken) {
  Create("first", 1);
  const DesiredAttempt first = Lease("a");
  Pass(absl::Seconds(30));
  const DesiredAttempt second = Lease("b");
  EXPECT_EQ(second.trial, first.trial);
  EXPECT_EQ(second.epoch, first.epoch + 1);
  EXPECT_NE(second.token, first.token);
}

TEST_F(SchedulerTest, TheSameWorkerThatLostALeaseCannotWriteUnderTheOldEpochAfterItGotTheTrialAgain) {
  Create("first", 1);
  const DesiredAttempt first = Lease("a");
  Pass(absl::Seconds(30));
  const DesiredAttempt second = Lease("a");
  ASSERT_EQ(second.trial, first.trial);
  const SyncAnswer old = Tell("a", first, Result{{{"s", 1.0}}});
  EXPECT_EQ(ReasonOf(old.verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(Counts("first").succeeded, 0);
  EXPECT_TRUE(Tell("a", second, Result{{{"s", 2.0}}}).verdicts[0].status.ok());
}

TEST_F(SchedulerTest, ALostAnswerIsHealedByTheNextOne) {
  Create("first");
  const DesiredAttempt granted = Lease("a");
  const SyncAnswer again = Sync(Request("a"));
  ASSERT_EQ(again.desired.size(), 1u);
  EXPECT_EQ(again.desired[0].epoch, granted.epoch);
  EXPECT_EQ(again.desired[0].token, granted.token);
}

TEST_F(SchedulerTest, TokenWorkerAndSessionMustAllFit) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  DesiredAttempt forged = attempt;
  forged.token[3] ^= 1;
  EXPECT_EQ(ReasonOf(Tell("a", forged, Result{}).verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(ReasonOf(Tell("b", attempt, Result{}).verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(Counts("first").succeeded, 0);
}

TEST_F(SchedulerTest, ARepeatedCompletionIsAnsweredAlikeAndADifferentOneRefused) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  const Result result{{{"s", 1.0}}};
  EXPECT_TRUE(Tell("a", attempt, result).verdicts[0].status.ok());
  EXPECT_TRUE(Tell("a", attempt, result).verdicts[0].status.ok());
  EXPECT_EQ(ReasonOf(Tell("a", attempt, Result{{{"s", 2.0}}}).verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(Counts("first").succeeded, 1);
}

TEST_F(SchedulerTest, MetricPointsThatWereAcknowledgedAreNotStoredAgain) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  SyncRequest request = Request("a");
  request.attempts.push_back(ReportOf(attempt));
  request.attempts[0].points = {{"loss", 1, 0.5}, {"loss", 2, 0.4}};
  request.attempts[0].point_sequence = 2;
  EXPECT_EQ(Sync(request).verdicts[0].acknowledged_point_sequence, 2);
  effects_.clear();
  EXPECT_EQ(Sync(request).verdicts[0].acknowledged_point_sequence, 2);
  EXPECT_TRUE(effects_.empty());
  request.attempts[0].points.push_back({"loss", 3, 0.3});
  request.attempts[0].point_sequence = 3;
  Sync(request);
  ASSERT_EQ(effects_.size(), 1u);
  EXPECT_EQ(std::get<AppendPoints>(effects_[0]).points.size(), 1u);
}

TEST_F(SchedulerTest, ANewSessionTakesTheNameAndTheOldOneIsToldForGood) {
  Create("first");
  Sync(Request("a", "s1"));
  Sync(Request("a", "s2"));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ReasonOf(scheduler_.OnSync(Request("a", "s1"), now_, effects_).status()), kReasonSessionSuperseded);
  }
}

TEST_F(SchedulerTest, AStoppedAttemptGoesBackWithoutCost) {
  RetryLimits limits;
  limits.max_worker_losses = 1;
  limits.max_trial_attempts = 1;
  Create("first", 1, 1, 0, limits);
  SyncRequest leaving = Request("a");
  leaving.draining = true;
  leaving.attempts.push_back(ReportOf(Lease("a")));
  leaving.attempts[0].outcome = Stopped{};
  EXPECT_TRUE(Sync(leaving).desired.empty());
  EXPECT_EQ(Counts("first").queued, 1);
  EXPECT_EQ(Lease("b").epoch, 2);
}

TEST_F(SchedulerTest, AResultThatNamesAnArtifactThatNeverCameIsNoResult) {
  Create("first", 1);
  const DesiredAttempt first = Lease("a");
  Result result{{{"s", 1.0}}};
  result.artifacts = {"samples.png", "log.txt"};
  ASSERT_TRUE(scheduler_.OnArtifact(ReportOf(first).lease, {.name = "samples.png"}, effects_).ok());
  Tell("a", first, result);
  EXPECT_EQ(Counts("first").succeeded, 0);
  EXPECT_EQ(Counts("first").queued, 1) << "it is tried again";
  Pass(absl::Seconds(2));
  const DesiredAttempt second = Lease("a");
  for (const std::string& name : result.artifacts) {
    ASSERT_TRUE(scheduler_.OnArtifact(ReportOf(second).lease, {.name = name}, effects_).ok());
  }
  Tell("a", second, result);
  EXPECT_EQ(Counts("first").succeeded, 1);
}

Result ResultFrom(const std::string& scorer_sha256, const std::string& scorer = "scorer /a") {
  Result result{.scores = {{"s", 1.0}}};
  result.inputs = {{scorer, scorer_sha256}};
  return result;
}

TEST_F(SchedulerTest, AResultFromOtherFilesRunsAgainAtNoCost) {
  RetryLimits one_attempt;
  one_attempt.max_trial_attempts = 1;
  Create("first", 2, 1, 0, one_attempt);
  Tell("a", Lease("a"), ResultFrom("old-digest-1"));
  effects_.clear();
  const DesiredAttempt attempt = Sync(Request("a")).desired.at(0);
  const SyncAnswer refused = Tell("a", attempt, ResultFrom("new-digest-2"));
  EXPECT_EQ(ReasonOf(refused.verdicts[0].status), kReasonInputsDiffer);
  EXPECT_THAT(std::string(refused.verdicts[0].status.message()),
              ::testing::AllOf(HasSubstr("'scorer /a'"), HasSubstr("new-digest-2"), HasSubstr("old-digest-1")));
  EXPECT_EQ(Counts("first").queued, 1) << "not failed, though one attempt is all it has";
  Pass(absl::Seconds(2));
  const DesiredAttempt again = Sync(Request("a")).desired.at(0);
  EXPECT_EQ(again.trial, attempt.trial);
  Tell("a", again, ResultFrom("old-digest-1"));
  EXPECT_EQ(State("first"), SweepState::kCompleted);
  EXPECT_EQ(Counts("first").succeeded, 2);
}

TEST_F(SchedulerTest, InputsOfAnotherValueHaveTheirOwnDigest) {
  Create("first", 2);
  Tell("a", Lease("a"), ResultFrom("digest-1", "scorer /a"));
  Tell("a", Sync(Request("a")).desired.at(0), ResultFrom("digest-2", "scorer /b"));
  EXPECT_EQ(Counts("first").succeeded, 2);
}

TEST_F(SchedulerTest, FilesThatWereReplacedForGoodPauseTheSweep) {
  Create("first", 3);
  Tell("a", Lease("a"), ResultFrom("old-digest"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(State("first"), SweepState::kActive);
    Pass(absl::Seconds(10));
    Tell("a", Sync(Request("a")).desired.at(0), ResultFrom("new-digest"));
  }
  EXPECT_EQ(State("first"), SweepState::kPaused);
  EXPECT_THAT(scheduler_.View("first", now_)->record->state_reason, HasSubstr("'scorer /a'"));
  EXPECT_EQ(Counts("first").queued, 2) << "nothing is lost";
}

TEST_F(SchedulerTest, WhatTheResultsCameFromOutlivesARestart) {
  const SweepRecord sweep = Create("first", 2);
  Tell("a", Lease("a"), ResultFrom("old-digest"));
  const auto kept = std::find_if(effects_.begin(), effects_.end(),
                                 [](const Effect& effect) { return std::holds_alternative<RecordInput>(effect); });
  ASSERT_NE(kept, effects_.end());
  Scheduler restored(MakeOptions(), random_);
  restored.RestoreSweep(sweep);
  restored.RestoreTrial(sweep.key, 0, TrialState::kQueued, 0, 0, 0, 0);
  restored.RestoreTrial(sweep.key, 1, TrialState::kQueued, 0, 0, 0, 0);
  restored.RestoreInput(std::get<RecordInput>(*kept));
  SyncRequest request = Request("b");
  request.attempts.push_back(ReportOf(restored.OnSync(request, now_, effects_)->desired.at(0)));
  request.attempts[0].outcome = ResultFrom("new-digest");
  EXPECT_EQ(ReasonOf(restored.OnSync(request, now_, effects_)->verdicts[0].status), kReasonInputsDiffer);
}

TEST_F(SchedulerTest, AResultThatThePlanRefusesIsAFailure) {
  Create("first", 1);
  SyncRequest request = Request("a");
  request.attempts.push_back(ReportOf(Lease("a")));
  request.attempts[0].outcome = Result{.scores = {{"s", 1.0}}};
  request.examine = [](const SweepRecord&, int64_t, Result) -> absl::StatusOr<Result> {
    return absl::InvalidArgumentError("it lacks the primary score");
  };
  EXPECT_TRUE(Sync(request).verdicts[0].status.ok());
  EXPECT_EQ(Counts("first").failed, 1);
  EXPECT_EQ(Counts("first").succeeded, 0);
}

// A scheduler as it is after a restart: one trial runs on worker "a", and of its token only the digest is known.
class RestoredSchedulerTest : public SchedulerTest {
 protected:
  RestoredSchedulerTest() {
    SweepRecord sweep;
    sweep.key = 1;
    sweep.id = "first";
    sweep.cells = 2;
    sweep.replicates = 1;
    scheduler_.RestoreSweep(sweep);
    scheduler_.RestoreTrial(1, 0, TrialState::kRunning, 3, 0, 0, 0);
    scheduler_.RestoreTrial(1, 1, TrialState::kSucceeded, 1, 0, 0, 42);
    WorkerRecord worker;
    worker.id = "a";
    worker.session = "s1";
    worker.succeeded = 7;
    scheduler_.RestoreWorker(worker, now_);
    scheduler_.RestoreAttempt({1, 0}, 3, Sha256Hex(ToHex(token_)), "a", "s1", 0, {"log.txt"}, now_);
  }
  const Token128 token_{9, 8, 7};
  const DesiredAttempt running_{{1, 0}, "first", 3, token_};
};

TEST_F(RestoredSchedulerTest, TheWorkerThatShowsTheTokenGoesOnAndItsEarlierFilesCount) {
  const SyncAnswer answer = Tell("a", running_, std::monostate{});
  EXPECT_TRUE(answer.verdicts[0].status.ok());
  ASSERT_EQ(answer.desired.size(), 1u);
  EXPECT_EQ(answer.desired[0].token, token_);
  Result result{{{"s", 1.0}}};
  result.artifacts = {"log.txt"};
  Tell("a", running_, result);
  EXPECT_EQ(Counts("first").succeeded, 2);
  EXPECT_EQ(scheduler_.workers().all().at("a").record.succeeded, 8) << "counted on from before the restart";
}

TEST_F(RestoredSchedulerTest, AWorkerThatDoesNotReportItNeverHeardOfItAndTheTrialIsOfferedAnew) {
  const SyncAnswer answer = Sync(Request("a"));
  ASSERT_EQ(answer.desired.size(), 1u);
  EXPECT_EQ(answer.desired[0].trial, running_.trial);
  EXPECT_EQ(answer.desired[0].epoch, 4);
  EXPECT_NE(answer.desired[0].token, token_);
  EXPECT_EQ(ReasonOf(Tell("a", running_, Result{}).verdicts[0].status), kReasonLeaseLost);
}

TEST_F(RestoredSchedulerTest, AForgedTokenIsStillRefused) {
  DesiredAttempt forged = running_;
  forged.token[0] ^= 1;
  EXPECT_EQ(ReasonOf(Tell("a", forged, Result{}).verdicts[0].status), kReasonLeaseLost);
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
