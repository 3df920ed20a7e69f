// Trials that are given to one worker to be trained together.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "tests/coordinator/scheduler/scheduler_fixture.h"

namespace loupe::coordinator::scheduler {
namespace {

// Packs: of two kinds of cells, 0, 2, 4 … fit each other, and so do 1, 3, 5 ….
class SchedulerPackTest : public SchedulerTest {
 protected:
  void CreateEvenAndOdd(const std::string& id, int64_t cells, RetryLimits limits = {}) {
    CreateKinds(id, cells, 2, limits);
  }
  void CreateKinds(const std::string& id, int64_t cells, int64_t kinds, RetryLimits limits = {}) {
    SweepNeeds needs;
    needs.classes.resize(static_cast<size_t>(kinds));
    for (int64_t cell = 0; cell < cells; ++cell) needs.class_of_cell.push_back(static_cast<uint8_t>(cell % kinds));
    SweepRecord sweep;
    sweep.id = id;
    sweep.uid = fmt::format("uid-{}", id);
    sweep.cells = cells;
    sweep.replicates = 1;
    sweep.limits = limits;
    ASSERT_TRUE(scheduler_
                    .OnCreate(
                        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, "",
                        std::make_shared<SweepNeeds>(std::move(needs)))
                    .ok());
    Finish();
  }
  SyncRequest Packer(const std::string& worker, int32_t pack_slots, const std::string& session = "s1") {
    SyncRequest request = Request(worker, session);
    request.pack_slots = pack_slots;
    return request;
  }
  // The worker reports what it holds; the trials at `ended` have succeeded.
  SyncAnswer Report(SyncRequest request, const std::vector<DesiredAttempt>& held, const std::set<size_t>& ended) {
    for (size_t i = 0; i < held.size(); ++i) {
      request.attempts.push_back(ReportOf(held[i]));
      request.attempts.back().phase = "train";
      if (ended.contains(i)) request.attempts.back().outcome = Result{{{"s", 1.0}}};
    }
    return Sync(request);
  }
  // What `worker` holds has trained 95 of 100 steps, and `fresh`, the last of it, none; the trials at `ended` have
  // succeeded.
  SyncAnswer ReportSteps(const std::string& worker, const std::vector<DesiredAttempt>& held, size_t fresh = 0,
                         const std::set<size_t>& ended = {}) {
    SyncRequest request = Packer(worker, 8);
    for (size_t i = 0; i < held.size(); ++i) {
      AttemptReport report = ReportOf(held[i]);
      report.phase = "train";
      report.step = i + fresh < held.size() ? 95 : 0;
      report.total_steps = 100;
      if (ended.contains(i)) report.outcome = Result{{{"s", 1.0}}};
      request.attempts.push_back(std::move(report));
    }
    return Sync(request);
  }
  static std::set<int64_t> Parities(const std::vector<DesiredAttempt>& attempts) {
    std::set<int64_t> parities;
    for (const DesiredAttempt& attempt : attempts) parities.insert(attempt.cell % 2);
    return parities;
  }
};

TEST_F(SchedulerPackTest, APackHasOnlyTrialsThatFit) {
  CreateEvenAndOdd("s", 12);
  const SyncAnswer answer = Sync(Packer("a", 4));
  EXPECT_EQ(answer.desired.size(), 4u);
  EXPECT_EQ(Parities(answer.desired).size(), 1u);
  // The other kind goes to the next worker, which is alone with it.
  Pass(absl::Seconds(2));
  const SyncAnswer other = Sync(Packer("b", 16));
  EXPECT_EQ(Parities(other.desired).size(), 1u);
}

TEST_F(SchedulerPackTest, AnOlderWorkerHasOneTrial) {
  CreateEvenAndOdd("s", 12);
  EXPECT_EQ(Sync(Request("a")).desired.size(), 1u);
}

TEST_F(SchedulerPackTest, EachWorkerGetsItsShare) {
  for (const char* worker : {"a", "b", "c"}) {
    Sync(Packer(worker, 8));
    scheduler_.Park(worker, now_);
  }
  Pass(absl::Seconds(2));
  CreateKinds("s", 12, 1);
  scheduler_.Dispatch(now_, effects_);
  for (const auto& [id, worker] : scheduler_.workers().all()) EXPECT_EQ(worker.attempts.size(), 4u) << id;
}

TEST_F(SchedulerPackTest, WhatTheFirstHoldsIsCountedInTheSecondsShare) {
  for (const char* worker : {"a", "b"}) Sync(Packer(worker, 8));
  Pass(absl::Seconds(2));
  CreateKinds("s", 13, 1);
  EXPECT_EQ(Sync(Packer("a", 8)).desired.size(), 6u);
  EXPECT_EQ(Sync(Packer("b", 8)).desired.size(), 7u);
}

TEST_F(SchedulerPackTest, WorkersThatCannotRunItHaveNoShare) {
  for (const char* worker : {"a", "b"}) {
    SyncRequest request = Packer(worker, 8);
    if (*worker == 'b') request.description.abilities.settings_version = 0;
    Sync(request);
  }
  Pass(absl::Seconds(2));
  CreateKinds("s", 6, 1);
  EXPECT_EQ(Sync(Packer("a", 8)).desired.size(), 6u);
}

TEST_F(SchedulerPackTest, WorkersThatTakeNothingNewHaveNoShare) {
  for (const char* worker : {"a", "b"}) Sync(Packer(worker, 8));
  ASSERT_TRUE(scheduler_.OnDrain("b", true, now_, effects_).ok());
  Pass(absl::Seconds(2));
  CreateKinds("s", 6, 1);
  EXPECT_EQ(Sync(Packer("a", 8)).desired.size(), 6u);
  // Given back to the others, it has its share again.
  ASSERT_TRUE(scheduler_.OnDrain("b", false, now_, effects_).ok());
  Pass(absl::Seconds(2));
  CreateKinds("t", 6, 1);
  EXPECT_EQ(Sync(Packer("b", 8)).desired.size(), 3u);
}

// A pack is of one kind, but a share is one of all that is left of the sweep: who takes one kind leaves the other.
TEST_F(SchedulerPackTest, AShareIsOfAllKindsTogether) {
  for (const char* worker : {"a", "b"}) Sync(Packer(worker, 8));
  Pass(absl::Seconds(2));
  CreateEvenAndOdd("s", 12);
  const std::vector<DesiredAttempt> first = Sync(Packer("a", 8)).desired, second = Sync(Packer("b", 8)).desired;
  EXPECT_EQ(first.size(), 6u);
  EXPECT_EQ(second.size(), 6u);
  EXPECT_NE(Parities(first), Parities(second));
}

TEST_F(SchedulerPackTest, TheLastTrialsAreDealtOutEvenly) {
  for (const char* worker : {"a", "b"}) Sync(Packer(worker, 8));
  Pass(absl::Seconds(2));
  CreateKinds("s", 20, 1);
  std::map<std::string, std::vector<DesiredAttempt>> held;
  for (const char* worker : {"a", "b"}) held[worker] = Sync(Packer(worker, 8)).desired;
  for (const auto& [worker, attempts] : held) {
    ASSERT_EQ(attempts.size(), 8u);
    ReportSteps(worker, attempts);
  }
  // Four are left. The worker whose pack ends first, one by one, leaves two of them to the other.
  const auto end_one_by_one = [&](const std::string& worker) {
    for (size_t ended = 1; ended <= 4; ++ended) {
      held[worker] = ReportSteps(worker, held[worker], held[worker].size() + ended - 1 - 8, {0}).desired;
    }
    return held[worker].size();
  };
  EXPECT_EQ(end_one_by_one("a"), 6u) << "four have ended, and two are new";
  EXPECT_EQ(end_one_by_one("b"), 6u);
  EXPECT_EQ(Counts("s").queued, 0);
}

TEST_F(SchedulerPackTest, WhileOneWaitsForTheOthersNoMoreAreGiven) {
  CreateKinds("s", 20, 1);
  std::vector<DesiredAttempt> held = Sync(Packer("a", 8)).desired;
  ASSERT_EQ(held.size(), 8u);
  held = Report(Packer("a", 8), held, {0, 1, 2}).desired;
  EXPECT_EQ(held.size(), 6u) << "three have ended, and one is new";
  const auto request_with_one_waiting = [&] {
    SyncRequest request = Packer("a", 8);
    for (const DesiredAttempt& attempt : held) {
      request.attempts.push_back(ReportOf(attempt));
      request.attempts.back().phase = &attempt == &held.back() ? "queued" : "sample";
    }
    return request;
  };
  EXPECT_EQ(Sync(request_with_one_waiting()).desired.size(), 6u);
  SyncRequest ended = request_with_one_waiting();
  for (size_t i = 0; i + 1 < held.size(); ++i) ended.attempts[i].outcome = Result{{{"s", 1.0}}};
  EXPECT_EQ(Sync(ended).desired.size(), 8u) << "the pack has ended, and the next is put together";
}

TEST_F(SchedulerPackTest, WhenItHasBegunTheNextIsGiven) {
  CreateKinds("s", 20, 1);
  std::vector<DesiredAttempt> held = Sync(Packer("a", 8)).desired;
  held = Report(Packer("a", 8), held, {0, 1, 2}).desired;
  ASSERT_EQ(held.size(), 6u);
  EXPECT_EQ(Report(Packer("a", 8), held, {}).desired.size(), 7u);
}

TEST_F(SchedulerPackTest, NobodyWaitsLongerThanAPackTakes) {
  CreateEvenAndOdd("s", 12);
  SyncAnswer answer = Sync(Packer("a", 2));
  const int64_t parity = *Parities(answer.desired).begin();
  // One place becomes free at a time: unless the next trial in turn fits, the pack runs out.
  int packs_of_other_kind = 0;
  for (int ended = 0; ended < 12; ++ended) {
    ASSERT_FALSE(answer.desired.empty());
    ASSERT_EQ(Parities(answer.desired).size(), 1u);
    packs_of_other_kind += *Parities(answer.desired).begin() != parity ? 1 : 0;
    // Never were all of one kind finished before the other's turn.
    answer = Report(Packer("a", 2), answer.desired, {0});
    if (ended == 4) {
      EXPECT_GT(packs_of_other_kind, 0);
    }
  }
  EXPECT_EQ(Counts("s").succeeded, 12);
}

TEST_F(SchedulerPackTest, TwoSweepsTakeTurns) {
  CreateEvenAndOdd("first", 8);
  CreateEvenAndOdd("second", 8);
  const SyncAnswer one = Sync(Packer("a", 3));
  ASSERT_EQ(one.desired.size(), 3u);
  const SyncAnswer left = Report(Packer("a", 3), one.desired, {0, 1});
  EXPECT_EQ(left.desired.size(), 1u) << "the other sweep's turn: the pack runs out";
  const SyncAnswer two = Report(Packer("a", 3), left.desired, {0});
  ASSERT_EQ(two.desired.size(), 3u);
  EXPECT_NE(two.desired[0].sweep_id, one.desired[0].sweep_id);
}

TEST_F(SchedulerPackTest, AWorkerWithLessMemoryGetsLess) {
  CreateEvenAndOdd("s", 12);
  const SyncAnswer four = Sync(Packer("a", 4));
  ASSERT_EQ(four.desired.size(), 4u);
  SyncRequest halved = Packer("a", 2);
  for (size_t i = 0; i < 4; ++i) {
    halved.attempts.push_back(ReportOf(four.desired[i]));
    if (i >= 2) halved.attempts.back().outcome = Stopped{};
  }
  EXPECT_EQ(Sync(halved).desired.size(), 2u);
  EXPECT_EQ(Counts("s").queued, 10) << "what was given back waits, and has lost nothing";
}

TEST_F(SchedulerPackTest, APackLostIsOneLossOfItsWorker) {
  CreateEvenAndOdd("s", 12);
  ASSERT_EQ(Sync(Packer("a", 4)).desired.size(), 4u);
  ASSERT_EQ(Sync(Packer("a", 4, "s2")).desired.size(), 4u) << "the restarted worker is trusted still";
}

TEST_F(SchedulerPackTest, TheLastChanceIsAlone) {
  // The trial that ends its process takes others with it: in the end it alone is quarantined.
  CreateEvenAndOdd("s", 8, {.max_worker_losses = 3});
  const auto deadly = [](const DesiredAttempt& attempt) { return attempt.cell == 4; };
  int session = 0;
  const auto packer = [&] { return Packer("a", 4, fmt::format("s{}", session)); };
  SyncAnswer answer = Sync(packer());
  for (int turn = 0; turn < 60 && Counts("s").queued + Counts("s").running > 0; ++turn) {
    if (answer.desired.empty() || std::any_of(answer.desired.begin(), answer.desired.end(), deadly)) {
      ++session;
      Pass(absl::Minutes(3));  // all leases are over, and so is a set-aside
      answer = Sync(packer());
      continue;
    }
    std::set<size_t> all;
    for (size_t i = 0; i < answer.desired.size(); ++i) all.insert(i);
    answer = Report(packer(), answer.desired, all);
  }
  EXPECT_EQ(Counts("s").quarantined, 1);
  EXPECT_EQ(Counts("s").succeeded, 7);
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
