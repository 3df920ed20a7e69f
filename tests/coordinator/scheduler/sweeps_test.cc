// Whose turn it is, and the verbs on a sweep and on a worker.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/error_details.h"
#include "fmt/format.h"
#include "tests/coordinator/scheduler/scheduler_fixture.h"

namespace loupe::coordinator::scheduler {
namespace {

TEST_F(SchedulerTest, HigherPriorityRunsFirstAndEqualsShareFairly) {
  Create("low-", 10, 1, 0);
  Create("high-a", 10, 1, 5);
  Create("high-b", 10, 1, 5);
  std::map<std::string, int> running;
  for (int i = 0; i < 8; ++i) ++running[Lease(fmt::format("w{}", i)).sweep_id];
  EXPECT_EQ(running["high-a"], 4);
  EXPECT_EQ(running["high-b"], 4);
  EXPECT_EQ(running["low-"], 0);
}

TEST_F(SchedulerTest, PauseGivesNothingNewAndLetsWhatRunsCount) {
  Create("first", 2);
  const DesiredAttempt attempt = Lease("a");
  ASSERT_TRUE(scheduler_.OnVerb("first", SweepVerb::kPause, "", now_, effects_).ok());
  EXPECT_TRUE(Tell("a", attempt, Result{{{"s", 1.0}}}).verdicts[0].status.ok());
  EXPECT_TRUE(Sync(Request("a")).desired.empty());
  ASSERT_TRUE(scheduler_.OnVerb("first", SweepVerb::kResume, "", now_, effects_).ok());
  EXPECT_EQ(Sync(Request("a")).desired.size(), 1u);
}

TEST_F(SchedulerTest, StopDrainsAndCancelKills) {
  Create("drain", 3);
  const DesiredAttempt attempt = Lease("a");
  ASSERT_TRUE(scheduler_.OnVerb("drain", SweepVerb::kStop, "", now_, effects_).ok());
  EXPECT_EQ(State("drain"), SweepState::kStopping);
  EXPECT_EQ(Counts("drain").cancelled, 2);
  EXPECT_TRUE(Tell("a", attempt, Result{{{"s", 1.0}}}).verdicts[0].status.ok());
  EXPECT_EQ(State("drain"), SweepState::kStopped);

  Create("kill", 3);
  const DesiredAttempt other = Lease("b");
  ASSERT_TRUE(scheduler_.OnVerb("kill", SweepVerb::kCancel, "", now_, effects_).ok());
  EXPECT_EQ(Counts("kill").cancelled, 3);
  EXPECT_EQ(ReasonOf(Tell("b", other, Result{}).verdicts[0].status), kReasonLeaseLost);
}

TEST_F(SchedulerTest, RetryQueuesWhatItsFilterNamesAndWakesTheSweep) {
  Create("first", 2);
  for (int i = 0; i < 2; ++i) Tell("a", Sync(Request("a")).desired.at(0), Failure{FailureClass::kUserError, "x"});
  EXPECT_EQ(State("first"), SweepState::kCompleted);
  const auto only_cell_1 = [](int64_t cell) { return cell == 1; };
  EXPECT_EQ(*scheduler_.OnRetry("first", {TrialState::kFailed}, only_cell_1, "r1", "f", now_, effects_), 1);
  EXPECT_EQ(*scheduler_.OnRetry("first", {TrialState::kFailed}, only_cell_1, "r1", "f", now_, effects_), 1)
      << "idempotent";
  EXPECT_EQ(Counts("first").queued, 1);
  EXPECT_EQ(State("first"), SweepState::kActive);
  EXPECT_EQ(Lease("a").trial.index, 1);
}

TEST_F(SchedulerTest, CreateIsIdempotentByRequestIdAndRefusesATakenName) {
  SweepRecord sweep;
  sweep.id = "same";
  sweep.cells = 1;
  sweep.replicates = 1;
  const auto create = [&](const std::string& request, const std::string& fingerprint) {
    return scheduler_.OnCreate(
        sweep, [](int64_t) { return "{}"; }, request, fingerprint, now_, effects_);
  };
  const absl::StatusOr<SweepRecord> first = create("r1", "f");
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(create("r1", "f")->key, first->key);
  EXPECT_EQ(create("r1", "other").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create("r2", "f").status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(SchedulerTest, AnEtagOfAnEarlierStateIsRefused) {
  Create("first");
  ASSERT_TRUE(scheduler_.OnVerb("first", SweepVerb::kPause, "1", now_, effects_).ok());
  EXPECT_EQ(ReasonOf(scheduler_.OnVerb("first", SweepVerb::kResume, "1", now_, effects_).status()),
            kReasonEtagMismatch);
}

TEST_F(SchedulerTest, ADrainedWorkerGetsNothingNewUntilUndrained) {
  Create("first", 2);
  const DesiredAttempt attempt = Lease("a");
  ASSERT_TRUE(scheduler_.OnDrain("a", true, now_, effects_).ok());
  const SyncAnswer answer = Tell("a", attempt, Result{{{"s", 1.0}}});
  EXPECT_TRUE(answer.desired.empty());
  EXPECT_TRUE(answer.draining);
  ASSERT_TRUE(scheduler_.OnDrain("a", false, now_, effects_).ok());
  EXPECT_EQ(Sync(Request("a")).desired.size(), 1u);
}

TEST_F(SchedulerTest, WorkGoesToTheWorkerThatHasWaitedLongest) {
  for (const char* worker : {"b", "a", "c"}) {
    Sync(Request(worker));
    scheduler_.Park(worker, now_);
  }
  Create("first", 2);
  scheduler_.Dispatch(now_, effects_);
  EXPECT_EQ(scheduler_.TakeWoken(), (std::vector<std::string>{"a", "b"}));
}

// Linear work per message would take minutes here; what is asserted is memory's and the queue's correctness at size.
TEST_F(SchedulerTest, HoldsAMillionTrialsAndGivesEachOnce) {
  Create("huge", 250'000, 4);
  Finish();
  effects_.clear();
  SyncRequest request = Request("a", "s1", 1000);
  const SyncAnswer first = Sync(request);
  ASSERT_EQ(first.desired.size(), 1000u);
  std::set<TrialKey> seen;
  for (const DesiredAttempt& attempt : first.desired) seen.insert(attempt.trial);
  EXPECT_EQ(seen.size(), 1000u);
  for (const DesiredAttempt& attempt : first.desired) {
    request.attempts.push_back(ReportOf(attempt));
    request.attempts.back().outcome = Result{{{"s", 1.0}}};
  }
  const SyncAnswer second = Sync(request);
  for (const DesiredAttempt& attempt : second.desired) EXPECT_TRUE(seen.insert(attempt.trial).second);
  EXPECT_EQ(Counts("huge").succeeded, 1000);
  EXPECT_EQ(Counts("huge").total(), 1'000'000);
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
