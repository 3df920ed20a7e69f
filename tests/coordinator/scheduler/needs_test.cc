// Trials go to workers that can run them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/coordinator/scheduler/scheduler_fixture.h"

namespace loupe::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;

class NeedsTest : public SchedulerTest {
 protected:
  // Cells 0 and 2 need method adapter, cell 1 lora; cell 3 settings of version 9.
  NeedsTest() {
    SweepNeeds needs;
    needs.classes = {{.method = "adapter"}, {.settings_version = 2, .method = "lora"}, {.settings_version = 9}};
    needs.class_of_cell = {0, 1, 0, 2};
    SweepRecord sweep;
    sweep.id = "mixed";
    sweep.uid = "uid";
    sweep.cells = 4;
    sweep.replicates = 2;
    EXPECT_TRUE(scheduler_
                    .OnCreate(
                        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, "",
                        std::make_shared<const SweepNeeds>(needs))
                    .ok());
  }
  SyncRequest RequestOf(const std::string& worker, std::set<std::string> methods, int32_t version, int32_t slots = 1) {
    SyncRequest request = Request(worker, "s1", slots);
    request.description.abilities.settings_version = version;
    request.description.abilities.methods = std::move(methods);
    return request;
  }
  static std::multiset<int64_t> CellsOf(const SyncAnswer& answer) {
    std::multiset<int64_t> cells;
    for (const DesiredAttempt& attempt : answer.desired) cells.insert(attempt.cell);
    return cells;
  }
  std::vector<WaitingTrials> Waiting() { return scheduler_.View("mixed", now_)->waiting; }
};

TEST_F(NeedsTest, AWorkerIsGivenWhatItCanRun) {
  // A program that says nothing about itself runs adapters.
  EXPECT_THAT(CellsOf(Sync(Request("old", "s1", 8))), ElementsAre(0, 0, 2, 2));
  EXPECT_THAT(CellsOf(Sync(RequestOf("lora", {"lora"}, 2, 8))), ElementsAre(1, 1));
  EXPECT_THAT(CellsOf(Sync(RequestOf("both", {"adapter", "lora"}, 8, 8))), ElementsAre());
  EXPECT_THAT(CellsOf(Sync(RequestOf("new", {}, 9, 8))), ElementsAre(3, 3));
}

TEST_F(NeedsTest, ClassesKeepTheOneRunOrder) {
  const auto granted = [&](const SyncRequest& request) {
    effects_.clear();
    Sync(request);
    std::vector<int64_t> indexes;
    for (const Effect& effect : effects_) {
      if (const auto* start = std::get_if<StartAttempt>(&effect)) indexes.push_back(start->trial.index);
    }
    return indexes;
  };
  const std::vector<int64_t> mixed = granted(RequestOf("all", {"adapter", "lora"}, 9, 8));
  Create("plain", 4, 2);
  EXPECT_EQ(mixed, granted(Request("any", "s1", 8)));
  EXPECT_EQ(mixed.size(), 8u);
}

TEST_F(NeedsTest, WhatNobodyCanRunWaitsAtNoCost) {
  EXPECT_THAT(Waiting(), ElementsAre(WaitingTrials{"mixed", 8, "no worker is connected"}));
  const SyncAnswer old = Sync(Request("old", "s1", 8));
  EXPECT_EQ(old.desired.size(), 4u);
  EXPECT_THAT(Waiting(),
              ElementsAre(WaitingTrials{"mixed", 2, "method lora, and no connected worker runs it"},
                          WaitingTrials{"mixed", 2,
                                        "settings of version 9, and connected workers know version 1 at most: update "
                                        "them"}));
  EXPECT_EQ(scheduler_.Waiting(now_, 10), Waiting());
  EXPECT_EQ(scheduler_.Waiting(now_, 1).size(), 1u);
  // No attempt was used up, and a worker that comes is given them at once.
  EXPECT_EQ(Counts("mixed").queued, 4);
  scheduler_.Park("old", now_);
  const SyncAnswer lora = Sync(RequestOf("lora", {"lora"}, 2, 8));
  ASSERT_EQ(lora.desired.size(), 2u);
  EXPECT_EQ(lora.desired[0].epoch, 1);
  EXPECT_EQ(Waiting().size(), 1u);
  // It goes, and they wait again.
  Pass(absl::Seconds(31));
  EXPECT_EQ(Waiting().size(), 2u);
}

TEST_F(NeedsTest, WorkGoesToAWaitingWorkerThatCanRunIt) {
  Sync(Request("old", "s1", 4));
  for (const char* worker : {"older", "newer"}) {
    SyncRequest request = RequestOf(worker, {"other"}, 1);
    Sync(request);
    scheduler_.Park(worker, now_);
  }
  Sync(RequestOf("lora", {"lora"}, 2, 1));
  Sync(RequestOf("lora2", {"lora"}, 2, 1));
  // Both trials of cell 1 are out; one comes back, and of those that wait only this one runs it.
  Sync(RequestOf("third", {"lora"}, 2, 1));
  scheduler_.Park("third", now_);
  const std::set<TrialKey> held = scheduler_.workers().all().at("lora").attempts;
  ASSERT_EQ(held.size(), 1u);
  SyncRequest leaving = RequestOf("lora", {"lora"}, 2, 1);
  leaving.draining = true;
  Sync(leaving);
  scheduler_.Dispatch(now_, effects_);
  EXPECT_THAT(scheduler_.TakeWoken(), ElementsAre("third"));
  EXPECT_EQ(scheduler_.workers().all().at("third").attempts, held);
}

TEST_F(SchedulerTest, TrialsOfSeveralDevicesWaitForThem) {
  SweepNeeds needs;
  needs.classes = {{.devices = 2}};
  needs.pack_of_class = {SweepNeeds::kAlone};
  SweepRecord sweep;
  sweep.id = "wide";
  sweep.cells = 2;
  sweep.replicates = 1;
  ASSERT_TRUE(scheduler_
                  .OnCreate(
                      sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, "",
                      std::make_shared<const SweepNeeds>(std::move(needs)))
                  .ok());
  SyncRequest narrow = Request("narrow"), wide = Request("wide");
  narrow.description.abilities.devices = {"cuda:0"};
  EXPECT_TRUE(Sync(narrow).desired.empty());
  EXPECT_EQ(scheduler_.WhyNobodyRuns({.devices = 2}, now_),
            "2 devices for one trial, and connected workers have 1 at most");
  wide.description.abilities.devices = {"cuda:0", "cuda:1"};
  wide.pack_slots = 8;
  EXPECT_EQ(Sync(wide).desired.size(), 1u) << "it has its worker to itself";
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
