#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>

#include "common/error_details.h"
#include "tests/coordinator/scheduler/scheduler_fixture.h"

namespace loupe::coordinator::scheduler {
namespace {

using ::testing::HasSubstr;

// Jobs on whole sweeps: work in steps of ten rows.
class JobsTest : public SchedulerTest {
 protected:
  static constexpr int64_t kRoom = 10;
  // One turn; the rows of trials that it wrote.
  int64_t Turn() {
    effects_.clear();
    scheduler_.BeginTurn(kRoom);
    const int64_t rows = scheduler_.Work(now_, effects_);
    return rows;
  }
  // How many turns until there is no work.
  int Turns() {
    int turns = 0;
    for (; scheduler_.HasWork(); ++turns) EXPECT_LE(Turn(), kRoom);
    return turns;
  }
  SweepState Shown(const std::string& id) { return scheduler_.View(id, now_)->record->shown_state(); }
  void CreateLarge(const std::string& id, int64_t cells, const std::string& client = "") {
    scheduler_.BeginTurn(0);
    SweepRecord sweep;
    sweep.id = id;
    sweep.cells = cells;
    sweep.replicates = 1;
    ASSERT_TRUE(scheduler_
                    .OnCreate(
                        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, client)
                    .ok());
  }
  template <typename E>
  int64_t Count() const {
    return std::count_if(effects_.begin(), effects_.end(),
                         [](const Effect& effect) { return std::holds_alternative<E>(effect); });
  }
};

TEST_F(JobsTest, NothingRunsBeforeAllIsStored) {
  CreateLarge("large", 95);
  EXPECT_EQ(Shown("large"), SweepState::kCreating);
  EXPECT_TRUE(Sync(Request("a")).desired.empty());
  EXPECT_EQ(scheduler_.OnVerb("large", SweepVerb::kCancel, "", now_, effects_).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Turns(), 10);
  EXPECT_EQ(Shown("large"), SweepState::kActive);
  EXPECT_EQ(Sync(Request("a")).desired.size(), 1u);
}

TEST_F(JobsTest, SmallSweepsAreDoneWithTheirCall) {
  Create("small", 8);
  EXPECT_FALSE(scheduler_.HasWork());
  EXPECT_EQ(Count<PutJob>(), 0);
  ASSERT_TRUE(scheduler_.OnVerb("small", SweepVerb::kCancel, "", now_, effects_).ok());
  EXPECT_EQ(State("small"), SweepState::kCancelled);
  EXPECT_EQ(Count<PutJob>() + Count<EndJob>(), 0);
}

TEST_F(JobsTest, ClientsTakeTurns) {
  for (const char* id : {"a1", "a2", "a3"}) CreateLarge(id, 100, "greedy");
  CreateLarge("b1", 30, "modest");
  for (int turn = 0; turn < 6; ++turn) Turn();
  EXPECT_EQ(Shown("b1"), SweepState::kActive) << "every second turn was its own";
  EXPECT_EQ(Shown("a1"), SweepState::kCreating);
  Turns();
  EXPECT_EQ(Shown("a3"), SweepState::kActive);
}

TEST_F(JobsTest, ACancelledSweepEndsWithItsLastTrial) {
  Create("large", 95);
  const DesiredAttempt attempt = Lease("a");
  scheduler_.BeginTurn(kRoom);
  ASSERT_TRUE(scheduler_.OnVerb("large", SweepVerb::kCancel, "", now_, effects_).ok());
  EXPECT_EQ(State("large"), SweepState::kStopping);
  EXPECT_EQ(Counts("large").running, 0) << "what runs ends at once";
  EXPECT_TRUE(Sync(Request("b")).desired.empty());
  Turns();
  EXPECT_EQ(State("large"), SweepState::kCancelled);
  EXPECT_EQ(Counts("large").cancelled, 95);
}

TEST_F(JobsTest, RetriesAreCountedAtOnceAndQueuedInSteps) {
  Create("large", 95);
  ASSERT_TRUE(scheduler_.OnVerb("large", SweepVerb::kCancel, "", now_, effects_).ok());
  scheduler_.BeginTurn(kRoom);
  const auto even = [](int64_t cell) { return cell % 2 == 0; };
  EXPECT_EQ(*scheduler_.OnRetry("large", {TrialState::kCancelled}, even, "r", "f", now_, effects_), 48);
  EXPECT_EQ(Counts("large").queued, 10);
  EXPECT_EQ(State("large"), SweepState::kActive);
  EXPECT_EQ(Lease("a").trial.index, 0) << "what is queued runs meanwhile";
  EXPECT_EQ(scheduler_.OnRetry("large", {TrialState::kCancelled}, nullptr, "", "", now_, effects_).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*scheduler_.OnRetry("large", {TrialState::kCancelled}, even, "r", "f", now_, effects_), 48) << "idempotent";
  Turns();
  EXPECT_EQ(Counts("large").queued, 47);
  EXPECT_EQ(Counts("large").cancelled, 47);
}

TEST_F(JobsTest, ASweepThatIsBeingDeletedTakesNoCommands) {
  Create("large", 95);
  const DesiredAttempt attempt = Lease("a");
  scheduler_.BeginTurn(kRoom);
  EXPECT_EQ(scheduler_.OnDelete("large", false, "", now_, effects_).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(scheduler_.OnDelete("large", true, "", now_, effects_).ok());
  EXPECT_EQ(Shown("large"), SweepState::kDeleting);
  EXPECT_EQ(ReasonOf(Tell("a", attempt, Result{}).verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(scheduler_.OnVerb("large", SweepVerb::kPause, "", now_, effects_).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(scheduler_.OnDelete("large", true, "", now_, effects_).ok()) << "idempotent";
  SweepRecord again;
  again.id = "large";
  again.cells = again.replicates = 1;
  const absl::Status taken = scheduler_
                                 .OnCreate(
                                     again, [](int64_t) { return "{}"; }, "", "", now_, effects_)
                                 .status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("being deleted"));
  // The store says when the last row is gone.
  effects_.clear();
  scheduler_.BeginTurn(kRoom);
  scheduler_.Work(now_, effects_);
  for (const Effect& effect : effects_) {
    if (const PurgeSweep* purge = std::get_if<PurgeSweep>(&effect)) purge->report(true);
  }
  scheduler_.BeginTurn(kRoom);
  EXPECT_EQ(scheduler_.View("large", now_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(scheduler_.HasWork());
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
