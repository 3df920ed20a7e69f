// Each kind of job, its power cut at every write and sync in turn: it goes on behind its last durable step, and ends as
// if nothing had happened.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "coordinator/engine/engine.h"
#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_random.h"
#include "tests/testing/memory_vfs.h"

namespace loupe::coordinator {
namespace {

constexpr char kDatabase[] = "/coordinator.db";
constexpr int64_t kCells = 5;
constexpr int32_t kReplicates = 3;

absl::StatusOr<scheduler::CellFunctions> AnyCells(const scheduler::SweepRecord&) {
  return scheduler::CellFunctions{[](int64_t) { return "{}"; }, [](int64_t) { return true; }};
}

// A coordinator that does a row or two at a time, on a disk that may lose its power.
class Coordinator {
 public:
  explicit Coordinator(testing::MemoryVfs& disk, int64_t job_rows = 2) : disk_(disk) {
    store_ = *store::SqliteStore::Open({.path = kDatabase, .vfs = disk.name()});
    scheduler::SchedulerOptions options;
    options.job_rows = job_rows;
    engine_ = std::make_unique<engine::Engine>(
        options, engine::Engine::Deps{.store = store_.get(), .clock = &clock_, .random = &random_, .cells = AnyCells});
    EXPECT_TRUE(engine_->Recover().ok());
  }

  using Command = std::function<absl::Status(scheduler::Scheduler&, const scheduler::Now&, scheduler::Effects&)>;
  // Until there is nothing left to do, or the power is gone. Whether the command was answered, and well.
  bool Run(const Command& command) {
    bool answered = false;
    engine_->Process({engine::Job([&](scheduler::Scheduler& scheduler, const scheduler::Now& now,
                                      scheduler::Effects& effects) -> engine::Reply {
      const absl::Status decided = command(scheduler, now, effects);
      return [&, decided](const absl::Status& durable) { answered = decided.ok() && durable.ok() && !disk_.frozen(); };
    })});
    Finish();
    return answered;
  }
  void Finish() {
    while (engine_->scheduler().HasWork() && !disk_.frozen()) engine_->Process({});
  }
  const scheduler::Scheduler& scheduler() const { return engine_->scheduler(); }
  store::SqliteStore& store() { return *store_; }
  scheduler::Now now() const { return {clock_.MonotonicNow(), clock_.WallNow()}; }

 private:
  testing::MemoryVfs& disk_;
  testing::FakeClock clock_;
  testing::FakeRandom random_;
  std::unique_ptr<store::SqliteStore> store_;
  std::unique_ptr<engine::Engine> engine_;
};

absl::Status Create(scheduler::Scheduler& scheduler, const std::string& id, const scheduler::Now& now,
                    scheduler::Effects& effects) {
  scheduler::SweepRecord sweep;
  sweep.id = id;
  sweep.uid = "uid-" + id;
  sweep.cells = kCells;
  sweep.replicates = kReplicates;
  return scheduler
      .OnCreate(
          sweep, [](int64_t) { return "{}"; }, "", "", now, effects)
      .status();
}

// Two trials have succeeded, with points, and two run.
absl::Status WorkABit(scheduler::Scheduler& scheduler, const scheduler::Now& now, scheduler::Effects& effects) {
  scheduler::SyncRequest request;
  request.worker = "w";
  request.session = "s";
  request.slots = 4;
  const auto granted = scheduler.OnSync(request, now, effects);
  for (const scheduler::DesiredAttempt& attempt : granted->desired) {
    scheduler::AttemptReport report;
    report.lease = {attempt.sweep_id, attempt.trial.index, attempt.epoch, ToHex(attempt.token)};
    if (request.attempts.size() < 2) {
      for (int64_t step = 1; step <= 5; ++step) report.points.push_back({"loss", step, 0.5});
      report.point_sequence = 5;
      report.outcome = scheduler::Result{{{"score", 0.5}, {"other", 1.0}}};
    }
    request.attempts.push_back(report);
  }
  request.slots = 2;
  return scheduler.OnSync(request, now, effects).status();
}

struct Case {
  const char* name;
  // On a disk with the sweep "first"; "second" is created by it.
  Coordinator::Command command;
  bool cancelled_before = false;
  const char* sweep = "first";
  // What there is in the end; nothing when it is to be gone.
  std::optional<scheduler::TrialCounts> counts;
  scheduler::SweepState state = scheduler::SweepState::kActive;
};

std::vector<Case> Cases() {
  return {{.name = "create",
           .command = [](scheduler::Scheduler& s, const scheduler::Now& now,
                         scheduler::Effects& effects) { return Create(s, "second", now, effects); },
           .sweep = "second",
           .counts = scheduler::TrialCounts{.queued = 15}},
          {.name = "stop",
           .command =
               [](scheduler::Scheduler& s, const scheduler::Now& now, scheduler::Effects& e) {
                 return s.OnVerb("first", scheduler::SweepVerb::kStop, "", now, e).status();
               },
           .counts = scheduler::TrialCounts{.running = 2, .succeeded = 2, .cancelled = 11},
           .state = scheduler::SweepState::kStopping},
          {.name = "cancel",
           .command =
               [](scheduler::Scheduler& s, const scheduler::Now& now, scheduler::Effects& e) {
                 return s.OnVerb("first", scheduler::SweepVerb::kCancel, "", now, e).status();
               },
           .counts = scheduler::TrialCounts{.succeeded = 2, .cancelled = 13},
           .state = scheduler::SweepState::kCancelled},
          {.name = "retry",
           .command =
               [](scheduler::Scheduler& s, const scheduler::Now& now, scheduler::Effects& effects) {
                 return s
                     .OnRetry(
                         "first", {TrialState::kCancelled}, [](int64_t) { return true; }, "", "", now, effects, "all")
                     .status();
               },
           .cancelled_before = true,
           .counts = scheduler::TrialCounts{.queued = 13, .succeeded = 2}},
          {.name = "delete",
           .command = [](scheduler::Scheduler& s, const scheduler::Now& now, scheduler::Effects& effects) {
             return s.OnDelete("first", true, "", now, effects);
           }}};
}

// Bytes of a database on which the command is to run.
std::string Prepared(const Case& one) {
  testing::MemoryVfs disk;
  {
    Coordinator coordinator(disk, 1000);
    EXPECT_TRUE(coordinator.Run([](scheduler::Scheduler& s, const scheduler::Now& now, scheduler::Effects& effects) {
      return Create(s, "first", now, effects);
    }));
    EXPECT_TRUE(coordinator.Run(&WorkABit));
    if (one.cancelled_before) {
      EXPECT_TRUE(coordinator.Run([](scheduler::Scheduler& s, const scheduler::Now& now, scheduler::Effects& e) {
        return s.OnVerb("first", scheduler::SweepVerb::kCancel, "", now, e).status();
      }));
    }
  }
  return disk.ReadFile(kDatabase);
}

void ExpectDone(const Case& one, Coordinator& coordinator, testing::MemoryVfs& disk) {
  const auto view = coordinator.scheduler().View(one.sweep, coordinator.now());
  const auto stored = coordinator.store().GetSweep(one.sweep);
  if (one.counts.has_value()) {
    ASSERT_TRUE(view.ok() && stored.ok()) << view.status() << stored.status();
    EXPECT_EQ(view->counts, *one.counts);
    EXPECT_EQ(*coordinator.store().CountTrials(stored->key), *one.counts);
    EXPECT_EQ(view->record->shown_state(), one.state);
    EXPECT_EQ(stored->shown_state(), one.state);
  } else {
    EXPECT_TRUE(absl::IsNotFound(view.status()));
    EXPECT_TRUE(absl::IsNotFound(stored.status()));
    EXPECT_EQ(coordinator.store().CountTrials(1)->total(), 0);
  }
  const auto db = *store::SqliteDb::Open(kDatabase, store::SqliteDb::Mode::kReadOnly, disk.name());
  int64_t dangling = 0;
  ASSERT_TRUE(db->ForEach("PRAGMA foreign_key_check", [&](const store::SqliteRow&) { ++dangling; }).ok());
  EXPECT_EQ(dangling, 0);
}

TEST(JobCrashTest, EveryJobGoesOnAfterACrashAtAnyWrite) {
  spdlog::set_level(spdlog::level::off);
  std::mt19937_64 random(1);
  for (const Case& one : Cases()) {
    SCOPED_TRACE(one.name);
    const std::string prepared = Prepared(one);
    int crashes = 0;
    int resumed = 0;
    for (int64_t n = 1; n < 2000; ++n) {
      SCOPED_TRACE(n);
      testing::MemoryVfs disk;
      disk.WriteFile(kDatabase, prepared);
      bool answered = false;
      bool frozen = false;
      {
        Coordinator coordinator(disk);
        disk.FreezeAt(n);
        answered = coordinator.Run(one.command);
        frozen = disk.frozen();
        disk.FreezeAt(0);
      }
      if (frozen) disk.Crash(random);
      Coordinator again(disk);
      resumed += again.scheduler().HasWork() ? 1 : 0;
      again.Finish();
      // What nobody was told has happened may not have: the client asks again.
      if (!answered) again.Run(one.command);
      ExpectDone(one, again, disk);
      if (HasFailure()) return;
      if (!frozen) break;
      ++crashes;
    }
    EXPECT_GT(crashes, 20);
    EXPECT_GT(resumed, 5);
  }
}

}  // namespace
}  // namespace loupe::coordinator
