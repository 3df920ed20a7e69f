#include "coordinator/engine/engine.h"

#include <gtest/gtest.h>

#include "common/random_source.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::engine {
namespace {

TEST(EngineTest, WhatHasItsAnswerIsNotDecidedAgainWhenTheCommitAfterItIsRefused) {
  const testing::TempFolder folder;
  const auto store = *store::SqliteStore::Open({.path = folder / "db"});
  Engine engine(scheduler::SchedulerOptions(), {store.get(), &SystemClock(), &SystemRandom(), nullptr});
  ASSERT_TRUE(engine.Recover().ok());
  // Sweeps can be written, leases cannot.
  const auto db = *store::SqliteDb::Open(folder / "db", store::SqliteDb::Mode::kReadWrite, "");
  ASSERT_TRUE(
      db->Execute("CREATE TRIGGER no_leases BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'no'); END").ok());

  std::vector<absl::Status> created;
  std::vector<absl::Status> synchronised;
  SyncCall idle;
  idle.request.worker = "w";
  idle.request.session = "s";
  idle.max_wait = absl::Minutes(1);
  idle.reply = [&](const absl::StatusOr<scheduler::SyncAnswer>& answer) { synchronised.push_back(answer.status()); };
  const Job create = [&](scheduler::Scheduler& scheduler, const scheduler::Now& now,
                         scheduler::Effects& effects) -> Reply {
    scheduler::SweepRecord sweep;
    sweep.id = "first";
    sweep.uid = "uid";
    sweep.cells = sweep.replicates = 1;
    const absl::Status decided = scheduler
                                     .OnCreate(
                                         sweep, [](int64_t) { return "{}"; }, "", "", now, effects)
                                     .status();
    return [&created, decided](const absl::Status& durable) { created.push_back(durable.ok() ? decided : durable); };
  };
  // In one batch: the worker's call is held, the sweep is created, and what follows from both is the refused lease.
  engine.Process({idle, create});
  ASSERT_EQ(created.size(), 1U);
  EXPECT_TRUE(created[0].ok()) << created[0];
  EXPECT_TRUE(synchronised.empty());

  ASSERT_TRUE(db->Execute("DROP TRIGGER no_leases").ok());
  engine.Process({});
  ASSERT_EQ(synchronised.size(), 1U);
  EXPECT_TRUE(synchronised[0].ok()) << synchronised[0];
}

}  // namespace
}  // namespace loupe::coordinator::engine
