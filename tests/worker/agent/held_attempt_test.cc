#include "worker/agent/held_attempt.h"

#include <gtest/gtest.h>

#include "tests/worker/agent/agent_fixture.h"
#include "worker/agent/backoff.h"

namespace loupe::worker::agent {
namespace {

using HeldAttemptTest = HeldAttemptFixture;

TEST_F(HeldAttemptTest, StopsAtNineTenthsOfTheLeaseAndNotBefore) {
  HeldAttempt attempt = Make();
  clock_.Advance(absl::Seconds(9) - absl::Nanoseconds(1));
  EXPECT_FALSE(attempt.ExpireIfDue(clock_.MonotonicNow()));
  EXPECT_FALSE(attempt.ShouldStop());
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_TRUE(attempt.ExpireIfDue(clock_.MonotonicNow()));
  EXPECT_TRUE(attempt.ShouldStop());
  EXPECT_EQ(attempt.stop_reason(), StopReason::kLeaseLost);
  EXPECT_FALSE(attempt.ExpireIfDue(clock_.MonotonicNow())) << "it is lost once";
}

TEST_F(HeldAttemptTest, ARenewalCountsFromTheAnswersReceipt) {
  HeldAttempt attempt = Make();
  clock_.Advance(absl::Seconds(8));
  attempt.Renew(clock_.MonotonicNow(), absl::Seconds(10));
  clock_.Advance(absl::Seconds(8));
  EXPECT_FALSE(attempt.ExpireIfDue(clock_.MonotonicNow()));
}

TEST_F(HeldAttemptTest, AFinishedAttemptWaitsForTheCoordinatorsVerdictHoweverLong) {
  HeldAttempt attempt = Make();
  attempt.Finish({});
  clock_.Advance(absl::Hours(1));
  EXPECT_FALSE(attempt.ExpireIfDue(clock_.MonotonicNow()));
  EXPECT_EQ(finished_, 1);
}

TEST_F(HeldAttemptTest, UnacknowledgedPointsAreRepeatedUnderTheSameSequenceNumbers) {
  HeldAttempt attempt = Make();
  for (int i = 1; i <= 3; ++i) attempt.OnMetric("loss", i, 0.5 * i);
  EXPECT_EQ(attempt.Report().point_sequence(), 3);
  EXPECT_EQ(attempt.Report().points_size(), 3) << "nothing is acknowledged yet";
  attempt.AcknowledgePoints(2);
  attempt.OnMetric("loss", 4, 2);
  const auto report = attempt.Report();
  EXPECT_EQ(report.point_sequence(), 4);
  ASSERT_EQ(report.points_size(), 2);
  EXPECT_EQ(report.points(0).step(), 3);
  attempt.AcknowledgePoints(1);  // an old answer, come late
  EXPECT_EQ(attempt.Report().points_size(), 2);
}

TEST_F(HeldAttemptTest, ALeaseHeldAgainNumbersItsPointsOn) {
  HeldAttempt before = Make();
  for (int i = 1; i <= 3; ++i) before.OnMetric("loss", i, 0.5 * i);
  before.AcknowledgePoints(2);
  HeldAttempt attempt = Make();
  attempt.GoOnFrom(before);
  attempt.OnMetric("loss", 4, 2);
  const auto report = attempt.Report();
  EXPECT_EQ(report.point_sequence(), 4);
  ASSERT_EQ(report.points_size(), 2);
  EXPECT_EQ(report.points(0).step(), 3);
  EXPECT_EQ(report.points(1).step(), 4);
}

TEST_F(HeldAttemptTest, TheOutcomeTravelsWithTheLastPoints) {
  HeldAttempt attempt = Make();
  for (int64_t i = 0; i <= HeldAttempt::kMaxPointsPerReport; ++i) attempt.OnMetric("loss", i, 1);
  executor::AttemptOutcome outcome;
  outcome.kind = executor::AttemptOutcome::Kind::kSuccess;
  outcome.scores["clip_i"] = 0.5;
  attempt.Finish(outcome);
  EXPECT_FALSE(attempt.Report().has_success());
  EXPECT_TRUE(attempt.HasMorePoints());
  attempt.AcknowledgePoints(HeldAttempt::kMaxPointsPerReport);
  ASSERT_TRUE(attempt.Report().has_success());
  EXPECT_EQ(attempt.Report().success().scores().at("clip_i"), 0.5);
  EXPECT_EQ(attempt.Report().point_sequence(), HeldAttempt::kMaxPointsPerReport + 1);
}

TEST_F(HeldAttemptTest, ReportsSayHowManyTrainTogether) {
  HeldAttempt attempt = Make();
  EXPECT_EQ(attempt.Report().pack(), 0) << "not known before it is prepared";
  attempt.OnPack(4);
  EXPECT_EQ(attempt.Report().pack(), 4);
}

TEST_F(HeldAttemptTest, AnUploadIsRepeatedUntilTheCoordinatorIsBack) {
  HeldAttempt attempt = Make();
  client_.SetUploadResults({absl::UnavailableError("down"), absl::DeadlineExceededError("slow"), absl::OkStatus()});
  EXPECT_TRUE(attempt.OnArtifact("samples.png", "image/png", "x").ok());
  EXPECT_EQ(client_.uploads().size(), 3u);
  executor::AttemptOutcome outcome;
  outcome.kind = executor::AttemptOutcome::Kind::kSuccess;
  attempt.Finish(outcome);
  ASSERT_EQ(attempt.Report().success().artifacts_size(), 1);
  EXPECT_EQ(attempt.Report().success().artifacts(0), "samples.png");
}

TEST_F(HeldAttemptTest, ARefusedUploadLosesTheLease) {
  HeldAttempt attempt = Make();
  client_.SetUploadResults({absl::AbortedError("LEASE_LOST")});
  EXPECT_EQ(attempt.OnArtifact("samples.png", "image/png", "x").code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(attempt.ShouldStop());
  EXPECT_EQ(client_.uploads().size(), 1u);
}

TEST_F(HeldAttemptTest, AnUploadThatCannotSucceedIsNotRepeated) {
  HeldAttempt attempt = Make();
  client_.SetUploadResults({absl::NotFoundError("no file")});
  EXPECT_EQ(attempt.OnArtifact("samples.png", "image/png", "x").code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(attempt.ShouldStop());
}

TEST(BackoffTest, DoublesUpToTheLongestAndStaysWithinHalfAndWholeOfTheBound) {
  CountingRandom random;  // small numbers: waits near half the bound
  Backoff backoff({absl::Seconds(1), absl::Seconds(5)}, random);
  for (const double bound : {1., 2., 4., 5., 5.}) {
    const double wait = absl::ToDoubleSeconds(backoff.Next());
    EXPECT_GE(wait, bound / 2);
    EXPECT_LE(wait, bound);
  }
  backoff.Reset();
  EXPECT_LE(backoff.Next(), absl::Seconds(1));
}

TEST_F(HeldAttemptTest, WhatWasEndedEarlySaysAtWhichStep) {
  HeldAttempt attempt = Make();
  EXPECT_EQ(attempt.FinishAfter(), 0);
  attempt.RequestFinishAfter(40);
  EXPECT_EQ(attempt.FinishAfter(), 40);
  EXPECT_FALSE(attempt.ShouldStop()) << "it is to be scored";
  executor::AttemptOutcome outcome;
  outcome.kind = executor::AttemptOutcome::Kind::kSuccess;
  outcome.stopped_at_step = 41;
  attempt.Finish(std::move(outcome));
  EXPECT_EQ(attempt.Report().success().stopped_at_step(), 41);
}

TEST_F(HeldAttemptTest, ALostRankIsALostWorker) {
  HeldAttempt attempt = Make();
  executor::AttemptOutcome outcome;
  outcome.failure_class = executor::FailureClass::kLost;
  attempt.Finish(std::move(outcome));
  EXPECT_EQ(attempt.Report().failure().class_(), v1::Failure::LOST_WORKER);
}

}  // namespace
}  // namespace loupe::worker::agent
