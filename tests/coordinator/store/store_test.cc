// The store's contract, over a file, a file that is reopened before every look, and the memory disk of the simulator.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <memory>

#include "coordinator/store/lock_file.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/coordinator/store/store_fixture.h"
#include "tests/testing/memory_vfs.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

enum class Kind { kFile, kReopenedFile, kMemory };

class StoreTest : public ::testing::TestWithParam<Kind> {
 protected:
  StoreTest() { Open(); }

  void Open() {
    SqliteStore::Options options{.path = folder_ / "coordinator.db"};
    if (GetParam() == Kind::kMemory) options = {.path = "/coordinator.db", .vfs = disk_.name()};
    store_.reset();
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  Store& store() {
    if (GetParam() == Kind::kReopenedFile) Open();
    return *store_;
  }
  void Commit(const scheduler::Effects& effects) {
    const absl::Status status = store().Commit(effects);
    ASSERT_TRUE(status.ok()) << status;
  }

  testing::TempFolder folder_;
  testing::MemoryVfs disk_;
  std::unique_ptr<SqliteStore> store_;
};

struct Collected final : RecoverySink {
  void OnSweep(scheduler::SweepRecord sweep) override { sweeps.push_back(std::move(sweep)); }
  void OnTrial(scheduler::SweepKey, const TrialSeed& trial) override { trials.push_back(trial); }
  void OnWorker(scheduler::WorkerRecord worker) override { workers.push_back(std::move(worker)); }
  void OnLiveAttempt(LiveAttempt attempt) override { live.push_back(std::move(attempt)); }
  void OnInput(scheduler::RecordInput input) override { inputs.push_back(std::move(input)); }
  void OnRung(const scheduler::NoteRung& rung) override { rungs.push_back(rung); }
  void OnRequest(scheduler::RecordRequest request) override { requests.push_back(std::move(request)); }
  std::vector<scheduler::SweepRecord> sweeps;
  std::vector<TrialSeed> trials;
  std::vector<scheduler::WorkerRecord> workers;
  std::vector<LiveAttempt> live;
  std::vector<scheduler::RecordInput> inputs;
  std::vector<scheduler::NoteRung> rungs;
  std::vector<scheduler::RecordRequest> requests;
};

TEST_P(StoreTest, ASweepComesBackAsItWasStoredWithAllItsTrialsQueued) {
  Commit({NewSweep(1, "first")});
  const absl::StatusOr<scheduler::SweepRecord> sweep = store().GetSweep("first");
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  EXPECT_EQ(sweep->spec, std::string("spec\0with a zero", 16));
  EXPECT_EQ(sweep->seed, 0xffffffffffffffffULL);
  EXPECT_EQ(sweep->priority, -3);
  EXPECT_EQ(sweep->create_time, kSomeTime);
  EXPECT_FALSE(sweep->end_time.has_value());
  scheduler::TrialCounts expected;
  expected.queued = 6;
  EXPECT_EQ(*store().CountTrials(1), expected);
  EXPECT_EQ(store().GetSweep("other").status().code(), absl::StatusCode::kNotFound);
}

TEST_P(StoreTest, TrialsAreListedInPagesByIndexWithCellAndReplicate) {
  Commit({NewSweep(1, "first")});
  const auto page = store().ListTrials(1, {.from_index = 2, .limit = 3});
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->size(), 3u);
  EXPECT_EQ((*page)[0].index, 2);
  EXPECT_EQ((*page)[1].cell_index, 0);
  EXPECT_EQ((*page)[1].replicate, 1);
  EXPECT_EQ((*page)[1].cell_levels_json, "{\"scale\":\"0\"}");
}

TEST_P(StoreTest, AnAcceptedResultIsSeenEverywhere) {
  const scheduler::TrialKey trial{1, 4};
  Commit({NewSweep(1, "first"), Running(trial, 1), Start(trial, 1)});
  Commit({scheduler::AppendPoints{
              trial, 1, {{"loss", 1, 0.5}, {"loss", 2, std::numeric_limits<double>::quiet_NaN()}, {"acc", 1, 1}}, 3},
          scheduler::RecordArtifact{trial, {"samples.png", "image/png", 10, std::string(64, 'a'), 1}}});
  Commit(Accepting(trial, 1, 0.25));
  const auto row = store().GetTrial(trial);
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_EQ(row->state, TrialState::kSucceeded);
  EXPECT_THAT(row->scores, ElementsAre(Pair("clip_i", 0.25)));
  EXPECT_EQ(row->worker, "w");
  EXPECT_THAT(store().ListTrials(1, {.states = {TrialState::kSucceeded}})->at(0).scores,
              ElementsAre(Pair("clip_i", 0.25)));
  const auto snapshot = store().Snapshot("first");
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_EQ(snapshot->trials.size(), 6u);
  EXPECT_THAT(snapshot->trials[4].scores, ElementsAre(Pair("clip_i", 0.25)));
  EXPECT_EQ(snapshot->trials[4].samples_sha256, std::string(64, 'a'));
  ASSERT_EQ(snapshot->curves.size(), 2u);
  EXPECT_EQ(snapshot->curves[1].metric, "loss");
  EXPECT_TRUE(std::isnan(snapshot->curves[1].points[1].second));
  EXPECT_THAT(snapshot->provenance, ElementsAre(Pair("version", "x")));
  EXPECT_EQ(store().ListArtifacts(trial)->at(0).name, "samples.png");
}

TEST_P(StoreTest, ColumnsSayWhatTheListSays) {
  Commit({NewSweep(1, "first")});
  for (const int64_t index : {1, 4}) {
    const scheduler::TrialKey trial{1, index};
    Commit({Running(trial, 1), Start(trial, 1)});
    scheduler::Effects effects = Accepting(trial, 1, 0.25);
    auto& result = std::get<scheduler::AcceptResult>(effects[1]).result;
    if (index == 4) result.scores = {{"a", 1}, {"clip_i", 0.5}, {"z", 2}};
    result.train_seconds = 3;
    result.total_seconds = 5;
    result.provenance = {{"device", "cuda:0"}};
    result.stopped_at_step = index == 1 ? 33 : 0;
    Commit(effects);
  }
  Commit({Running({1, 2}, 1), Start({1, 2}, 1)});
  const auto rows = store().ListTrials(1, {.from_index = 1, .limit = 4});
  const auto columns = store().ReadColumns(1, 1, 4);
  ASSERT_TRUE(rows.ok() && columns.ok()) << rows.status() << columns.status();
  ASSERT_EQ(columns->states.size(), rows->size());
  EXPECT_EQ(columns->first, 1);
  EXPECT_EQ(columns->scores.size(), 3u);
  for (size_t i = 0; i < rows->size(); ++i) {
    const TrialRow& row = (*rows)[i];
    EXPECT_EQ(columns->states[i], row.state);
    EXPECT_EQ(std::isnan(columns->seconds[i]), !row.end_time.has_value());
    EXPECT_EQ(columns->stopped_at_steps[i], row.index == 1 ? 33u : 0u);
    EXPECT_EQ(row.stopped_at_step, row.index == 1 ? 33 : 0);
    if (row.end_time) {
      EXPECT_FLOAT_EQ(columns->seconds[i], static_cast<float>(absl::ToDoubleSeconds(*row.end_time - *row.start_time)));
    }
    for (const auto& [name, values] : columns->scores) {
      const auto found = row.scores.find(name);
      if (found == row.scores.end()) {
        EXPECT_TRUE(std::isnan(values[i])) << name;
      } else {
        EXPECT_EQ(values[i], found->second) << name;
      }
    }
  }
  EXPECT_EQ(store().ReadColumns(1, 6, 4)->states.size(), 0u);

  const auto seconds = store().ListResultSeconds(1, 1);
  ASSERT_TRUE(seconds.ok()) << seconds.status();
  ASSERT_EQ(seconds->size(), 1u);
  EXPECT_EQ(seconds->front().trial, 4);
  EXPECT_EQ(seconds->front().train, 3);
  EXPECT_EQ(seconds->front().total, 5);
  EXPECT_EQ(seconds->front().device, "cuda:0");
}

TEST_P(StoreTest, WhatWorkersNotedIsInTheSnapshotOnceWithTheirArithmetic) {
  Commit({NewSweep(1, "first")});
  const auto accept = [&](int64_t index, const std::string& prompts) {
    const scheduler::TrialKey trial{1, index};
    Commit({Running(trial, 1), Start(trial, 1)});
    scheduler::Effects effects = Accepting(trial, 1, 0.25);
    std::get<scheduler::AcceptResult>(effects[1]).result.provenance = {{"note.pictures", "b.bmp: left out"},
                                                                       {"note.prompts", prompts}};
    // Another program computed the last one.
    if (index < 2) std::get<scheduler::AcceptResult>(effects[1]).result.provenance.emplace("numerics", "2, AVX2");
    Commit(effects);
  };
  accept(0, "'in a hat' is cut off");
  accept(1, "'on a mat' is cut off");
  accept(2, "'in a hat' is cut off");
  EXPECT_THAT(store().Snapshot("first")->notes,
              ElementsAre("'in a hat' is cut off", "'on a mat' is cut off", "b.bmp: left out"));
  EXPECT_THAT(store().Snapshot("first")->numerics, ElementsAre(Pair("1", 1), Pair("2, AVX2", 2)));
}

TEST_P(StoreTest, ASecondResultOfATrialIsRefusedWhateverTheCallerDoes) {
  const scheduler::TrialKey trial{1, 0};
  Commit({NewSweep(1, "first"), Running(trial, 1), Start(trial, 1)});
  Commit(Accepting(trial, 1, 0.25));
  Commit({Running(trial, 2), Start(trial, 2)});
  EXPECT_EQ(store().Commit(Accepting(trial, 2, 0.75)).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(store().GetTrial(trial)->scores, ElementsAre(Pair("clip_i", 0.25)));
}

TEST_P(StoreTest, TwoRunningAttemptsOfATrialAreRefused) {
  const scheduler::TrialKey trial{1, 0};
  Commit({NewSweep(1, "first"), Running(trial, 1), Start(trial, 1)});
  EXPECT_EQ(store().Commit({Start(trial, 2)}).code(), absl::StatusCode::kAlreadyExists);
}

TEST_P(StoreTest, ACommitThatFailsHalfWayLeavesNothing) {
  Commit({NewSweep(1, "first")});
  EXPECT_FALSE(store().Commit({NewSweep(2, "second"), NewSweep(3, "first")}).ok());
  EXPECT_EQ(store().GetSweep("second").status().code(), absl::StatusCode::kNotFound);
  Commit({NewSweep(2, "second")});
}

TEST_P(StoreTest, AWorkersCountsAndALiveAttemptsArtifactsSurvive) {
  const scheduler::TrialKey trial{1, 2};
  scheduler::WorkerRecord worker;
  worker.id = "w";
  worker.session = "s";
  Commit({NewSweep(1, "first"), scheduler::UpsertWorker{worker}, Running(trial, 1), Start(trial, 1),
          scheduler::RecordArtifact{trial, {"log.txt", "text/plain", 5, Sha256Hex("hello"), 1}},
          scheduler::CountWorker{"w", 3, 2, kSomeTime}});
  Collected all;
  ASSERT_TRUE(store().Recover(all).ok());
  ASSERT_EQ(all.workers.size(), 1u);
  EXPECT_EQ(all.workers[0].succeeded, 3);
  EXPECT_EQ(all.workers[0].failed, 2);
  ASSERT_EQ(all.live.size(), 1u);
  EXPECT_THAT(all.live[0].artifacts, ElementsAre("log.txt"));
}

TEST_P(StoreTest, AForgottenWorkerIsGone) {
  scheduler::WorkerRecord stays;
  stays.id = "stays";
  scheduler::WorkerRecord goes;
  goes.id = "goes";
  Commit({scheduler::UpsertWorker{stays}, scheduler::UpsertWorker{goes}, scheduler::ForgetWorker{"goes"},
          scheduler::CountWorker{"stays", 1, 0, kSomeTime}});
  Collected all;
  ASSERT_TRUE(store().Recover(all).ok());
  ASSERT_EQ(all.workers.size(), 1u);
  EXPECT_EQ(all.workers[0].id, "stays");
  EXPECT_EQ(all.workers[0].last_seen, kSomeTime);
}

TEST_P(StoreTest, RecoveryGivesBackEverythingThatWasLive) {
  const scheduler::TrialKey trial{1, 2};
  scheduler::WorkerRecord worker;
  worker.id = "w";
  worker.session = "s";
  worker.past_sessions = {"r"};
  worker.draining = true;
  worker.first_seen = kSomeTime;
  Commit({NewSweep(1, "first"), scheduler::UpsertWorker{worker}, Running(trial, 1), Start(trial, 1),
          scheduler::AppendPoints{trial, 1, {{"loss", 1, 0.5}}, 7},
          scheduler::RecordInput{1, "scorer /a", Sha256Hex("scorer")},
          scheduler::NoteRung{1, {.trial = 2, .rung = 10, .value = 0.5, .stops = true}},
          scheduler::NoteRung{1, {.trial = 2, .rung = 30, .value = std::numeric_limits<double>::quiet_NaN()}},
          scheduler::RecordRequest{"r1", "CreateSweep", "f", "first", 0, kSomeTime}});
  Collected all;
  ASSERT_TRUE(store().Recover(all).ok());
  ASSERT_EQ(all.trials.size(), 6u);
  EXPECT_EQ(all.trials[2].state, TrialState::kRunning);
  ASSERT_EQ(all.live.size(), 1u);
  EXPECT_EQ(all.live[0].trial, trial);
  EXPECT_EQ(all.live[0].token_sha256, Sha256Hex("token"));
  EXPECT_EQ(all.live[0].point_sequence, 7);
  ASSERT_EQ(all.rungs.size(), 2u);
  EXPECT_EQ(all.rungs[0].note.trial, 2);
  EXPECT_EQ(all.rungs[0].note.rung, 10);
  EXPECT_EQ(all.rungs[0].note.value, 0.5);
  EXPECT_TRUE(all.rungs[0].note.stops);
  EXPECT_TRUE(std::isnan(all.rungs[1].note.value));
  ASSERT_EQ(all.workers.size(), 1u);
  EXPECT_TRUE(all.workers[0].draining);
  EXPECT_THAT(all.workers[0].past_sessions, ElementsAre("r"));
  ASSERT_EQ(all.inputs.size(), 1u);
  EXPECT_EQ(all.inputs[0].name, "scorer /a");
  EXPECT_EQ(all.inputs[0].sha256, Sha256Hex("scorer"));
  ASSERT_EQ(all.requests.size(), 1u);
  EXPECT_EQ(all.requests[0].fingerprint, "f");
}

TEST_P(StoreTest, PointsComeInPagesAndARepeatAddsNothing) {
  const scheduler::TrialKey trial{1, 0};
  Commit({NewSweep(1, "first"), Running(trial, 1), Start(trial, 1)});
  const scheduler::AppendPoints points{trial, 1, {{"b", 1, 1}, {"a", 2, 2}, {"a", 1, 3}}, 3};
  Commit({points});
  Commit({points});
  const auto first = store().ListPoints(trial, 1, "", std::nullopt, 2);
  ASSERT_EQ(first->size(), 2u);
  EXPECT_EQ(first->at(1).step, 2);
  const auto rest = store().ListPoints(trial, 1, "", PointPosition{"a", 2}, 10);
  ASSERT_EQ(rest->size(), 1u);
  EXPECT_EQ(rest->at(0).metric, "b");
  EXPECT_EQ(store().ListPoints(trial, 1, "b", std::nullopt, 10)->size(), 1u);
}

TEST_P(StoreTest, AttemptsAreListedLatestFirst) {
  Commit({NewSweep(1, "a"), NewSweep(2, "b")});
  for (int64_t i = 0; i < 4; ++i) {
    scheduler::StartAttempt start = Start({i < 3 ? 1 : 2, i % 3}, 1, "w" + std::to_string(i));
    start.start_time = kSomeTime + absl::Seconds(i);
    Commit({start, Running(start.trial, 1)});
  }
  Commit({scheduler::EndAttempt{{1, 0},
                                1,
                                scheduler::AttemptEnd::kFailed,
                                scheduler::Failure{scheduler::FailureClass::kUserError, "no"},
                                kSomeTime + absl::Seconds(9)}});
  scheduler::StartAttempt again = Start({1, 0}, 2);
  again.start_time = kSomeTime + absl::Seconds(10);
  Commit({again});
  const auto workers = [&](const AttemptFilter& filter) {
    std::vector<std::string> names;
    const auto attempts = store().ListAttempts(filter);
    for (const AttemptRow& attempt : *attempts) names.push_back(attempt.worker);
    return names;
  };
  EXPECT_THAT(workers({}), ElementsAre("w", "w3", "w2", "w1", "w0"));
  EXPECT_THAT(workers({.sweep = 2}), ElementsAre("w3"));
  EXPECT_THAT(workers({.sweep = 1, .trial = 0}), ElementsAre("w", "w0"));
  EXPECT_THAT(workers({.sweep = 1, .ended_after = kSomeTime + absl::Seconds(9)}), ElementsAre("w", "w2", "w1"));
  const AttemptFilter rest = {.after = AttemptFilter::Position{kSomeTime + absl::Seconds(2), {1, 2}, 1}, .limit = 1};
  EXPECT_THAT(workers(rest), ElementsAre("w1"));
  const AttemptRow failed = store().ListAttempts({.sweep = 1, .trial = 0})->back();
  EXPECT_EQ(failed.sweep_id, "a");
  EXPECT_EQ(failed.outcome, scheduler::AttemptEnd::kFailed);
  ASSERT_TRUE(failed.failure.has_value());
  EXPECT_EQ(failed.failure->message, "no");
  EXPECT_EQ(failed.end_time, kSomeTime + absl::Seconds(9));
}

TEST_P(StoreTest, AScoreIsSummedUpOverItsResults) {
  Commit({NewSweep(1, "a"), NewSweep(2, "b")});
  const ScoreSummary none = *store().SummariseScore(1, "clip_i", false);
  EXPECT_EQ(none.results, 0);
  EXPECT_TRUE(std::isnan(none.mean));
  EXPECT_EQ(none.best_trial, -1);
  int64_t index = 0;
  for (const double score : {0.5, 0.75, 0.25, 0.75}) {
    const scheduler::TrialKey trial{1, index++};
    Commit({Start(trial, 1), Running(trial, 1)});
    Commit(Accepting(trial, 1, score));
  }
  const ScoreSummary largest = *store().SummariseScore(1, "clip_i", false);
  EXPECT_EQ(largest.results, 4);
  EXPECT_EQ(largest.mean, 0.5625);
  EXPECT_EQ(largest.best, 0.75);
  EXPECT_EQ(largest.best_trial, 1);
  EXPECT_EQ(store().SummariseScore(1, "clip_i", true)->best_trial, 2);
  EXPECT_EQ(store().SummariseScore(2, "clip_i", false)->results, 0);
  EXPECT_EQ(*store().CountAcceptedSince(1, kSomeTime - absl::Seconds(1)), 4);
  EXPECT_EQ(*store().CountAcceptedSince(1, kSomeTime), 0);
  EXPECT_THAT(*store().GetProvenance({1, 0}), ElementsAre(Pair("version", "x")));
  EXPECT_TRUE(store().GetProvenance({1, 5})->empty());
}

TEST_P(StoreTest, ALateResultIsKeptAsEvidenceOnlyWithItsOwnToken) {
  const scheduler::TrialKey trial{1, 0};
  Commit({NewSweep(1, "first"), Running(trial, 1), Start(trial, 1),
          scheduler::EndAttempt{trial, 1, scheduler::AttemptEnd::kLost,
                                scheduler::Failure{scheduler::FailureClass::kLostWorker, "silent"}, kSomeTime}});
  Commit({scheduler::KeepSupersededResult{trial, 1, "wrong", scheduler::Result{{{"s", 9}}}}});
  Commit({scheduler::KeepSupersededResult{trial, 1, ToHex({1, 2, 3}), scheduler::Result{{{"s", 1}}}}});
  EXPECT_TRUE(store().GetTrial(trial)->scores.empty());
}

TEST_P(StoreTest, DeletingASweepTakesAllThatIsIts) {
  const scheduler::TrialKey trial{1, 0};
  Commit({NewSweep(1, "first"), NewSweep(2, "second"), Running(trial, 1), Start(trial, 1),
          scheduler::AppendPoints{trial, 1, {{"loss", 1, 0.5}}, 1}});
  Commit(Accepting(trial, 1, 0.5));
  Commit({scheduler::PurgeSweep{1}});
  EXPECT_EQ(store().GetSweep("first").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store().CountTrials(1)->total(), 0);
  EXPECT_EQ(store().CountTrials(2)->total(), 6);
  EXPECT_TRUE(store().ListPoints(trial, 1, "", std::nullopt, 10)->empty());
}

TEST_P(StoreTest, CancellingTouchesQueuedTrialsOnly) {
  const scheduler::TrialKey trial{1, 0};
  Commit({NewSweep(1, "first"), Running(trial, 1), Start(trial, 1), scheduler::CancelQueuedTrials{1}});
  const absl::StatusOr<scheduler::TrialCounts> counts = store().CountTrials(1);
  EXPECT_EQ(counts->running, 1);
  EXPECT_EQ(counts->cancelled, 5);
  EXPECT_EQ(store().FindTrials(1, {TrialState::kCancelled})->size(), 5u);
}

INSTANTIATE_TEST_SUITE_P(Kinds, StoreTest, ::testing::Values(Kind::kFile, Kind::kReopenedFile, Kind::kMemory));

TEST(LockFileTest, ASecondHolderIsRefusedWithTheFirstOnesNumber) {
  testing::TempFolder folder;
  absl::StatusOr<std::unique_ptr<LockFile>> first = LockFile::Acquire(folder / "lock");
  ASSERT_TRUE(first.ok());
  const absl::Status second = LockFile::Acquire(folder / "lock").status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.message()), HasSubstr(std::to_string(getpid())));
  first->reset();
  EXPECT_TRUE(LockFile::Acquire(folder / "lock").ok());
}

}  // namespace
}  // namespace loupe::coordinator::store
