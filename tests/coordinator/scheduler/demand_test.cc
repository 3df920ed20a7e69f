// How many workers there should be.
#include <gtest/gtest.h>

#include "coordinator/scheduler/scheduler.h"
#include "fmt/format.h"
#include "tests/testing/fake_random.h"

namespace loupe::coordinator::scheduler {
namespace {

class DemandTest : public ::testing::Test {
 protected:
  DemandTest() : scheduler_(SchedulerOptions{.worth_a_worker = absl::Minutes(5)}, random_) {}

  void Create(const std::string& id, int64_t trials, std::shared_ptr<const SweepNeeds> needs = nullptr) {
    SweepRecord sweep;
    sweep.id = id;
    sweep.uid = "uid-" + id;
    sweep.cells = trials;
    sweep.replicates = 1;
    ASSERT_TRUE(scheduler_
                    .OnCreate(
                        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, "", std::move(needs))
                    .ok());
  }

  SyncAnswer Sync(const std::string& worker, bool draining = false, std::vector<AttemptReport> reports = {}) {
    SyncRequest request;
    request.worker = worker;
    request.session = "s";
    request.draining = draining;
    request.attempts = std::move(reports);
    return *scheduler_.OnSync(request, now_, effects_);
  }
  // Ends the worker's trial in so many seconds; it is given the next one.
  void Succeed(const std::string& worker, const DesiredAttempt& attempt, double seconds) {
    Result result{{{"s", 1.0}}};
    result.total_seconds = seconds;
    AttemptReport report;
    report.lease = {attempt.sweep_id, attempt.trial.index, attempt.epoch, ToHex(attempt.token)};
    report.outcome = result;
    Sync(worker, false, {report});
  }

  testing::FakeRandom random_;
  Scheduler scheduler_;
  Now now_{absl::Seconds(1000), absl::FromUnixSeconds(1'800'000'000)};
  Effects effects_;
};

TEST_F(DemandTest, NothingToDoWantsNobody) {
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 0);
  Sync("idle");
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 0);
  EXPECT_EQ(scheduler_.DemandAt(now_).available, 1);
}

TEST_F(DemandTest, UnmeasuredTrialsWantOneEach) {
  Create("s", 40);
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 40);
  EXPECT_EQ(scheduler_.DemandAt(now_).trials, 40);
}

// 20 s each: 15 of them are five minutes of work.
TEST_F(DemandTest, ShortTrialsShareAWorker) {
  Create("s", 31);
  Succeed("a", Sync("a").desired.at(0), 20);
  EXPECT_EQ(scheduler_.DemandAt(now_).trials, 30) << "29 queued, one running";
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 2);
  Create("longer", 3);
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 5) << "of another sweep nothing is measured";
}

TEST_F(DemandTest, LongTrialsWantNoMoreThanTheyAre) {
  Create("s", 4);
  Succeed("a", Sync("a").desired.at(0), 3600);
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 3);
}

// Who counts only the queue ends the workers that hold the last trials.
TEST_F(DemandTest, BusyWorkersAreWanted) {
  Create("s", 4);
  Succeed("a", Sync("a").desired.at(0), 1);
  for (const char* worker : {"b", "c"}) Sync(worker);
  EXPECT_EQ(scheduler_.DemandAt(now_).trials, 3) << "none is queued";
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 3);
}

// Neither supply nor one that could be spared: a second worker is not ended in its place.
TEST_F(DemandTest, LeavingWorkersAreNoSupply) {
  for (const char* worker : {"a", "b", "c"}) Sync(worker);
  EXPECT_EQ(scheduler_.DemandAt(now_).available, 3);
  Sync("a", /*draining=*/true);
  ASSERT_TRUE(scheduler_.OnDrain("b", true, now_, effects_).ok());
  EXPECT_EQ(scheduler_.DemandAt(now_).available, 1);
  now_.monotonic += scheduler_.options().lease;
  EXPECT_EQ(scheduler_.DemandAt(now_).available, 0) << "silent";
}

TEST_F(DemandTest, TrialsThatNobodyCanRunWantNobody) {
  Create("s", 8, std::make_shared<SweepNeeds>(SweepNeeds{.classes = {TrialNeeds{.method = "lora"}}}));
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 8) << "nobody is there: the first will show what they can";
  Sync("adapters-alone");
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 0) << "more of that kind would not run them";
}

TEST_F(DemandTest, PausedSweepsWantNobody) {
  Create("s", 8);
  ASSERT_TRUE(scheduler_.OnVerb("s", SweepVerb::kPause, "", now_, effects_).ok());
  EXPECT_EQ(scheduler_.DemandAt(now_).wanted, 0);
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
