// Files of every earlier schema version, opened by the program of today (fixtures/README.md).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "coordinator/plan/plan.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "coordinator/store/migrations.h"
#include "coordinator/store/sqlite_store.h"
#include "coordinator/store/upkeep/copies.h"
#include "coordinator/store/upkeep/doctor.h"
#include "fmt/format.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::store {
namespace {

using ::testing::IsEmpty;

std::string FixturePath(int version) { return fmt::format("tests/coordinator/store/fixtures/schema_{}.db", version); }

class MigrationTest : public ::testing::Test {
 protected:
  // A data folder with a copy of the fixture.
  std::string FolderOf(int version) {
    const std::string data = folder_ / fmt::format("data-{}", version);
    std::filesystem::create_directory(data);
    std::filesystem::copy_file(FixturePath(version), data + "/coordinator.db");
    return data;
  }
  // `sql`: a constant (the connection keeps its statement by the address).
  static std::string Value(SqliteDb& db, const char* sql) {
    std::string value;
    EXPECT_TRUE(db.ForEach(sql, [&](const SqliteRow& row) { value = row.Text(0); }).ok()) << sql;
    return value;
  }

  testing::TempFolder folder_;
};

struct Counting final : RecoverySink {
  void OnSweep(scheduler::SweepRecord sweep) override { sweeps.push_back(std::move(sweep)); }
  void OnTrial(scheduler::SweepKey, const TrialSeed& trial) override { ++trials[trial.state]; }
  void OnInput(scheduler::RecordInput) override {}
  void OnRung(const scheduler::NoteRung&) override {}
  void OnWorker(scheduler::WorkerRecord worker) override { workers.push_back(std::move(worker)); }
  void OnLiveAttempt(LiveAttempt attempt) override { live.push_back(std::move(attempt)); }
  void OnRequest(scheduler::RecordRequest) override {}
  std::vector<scheduler::SweepRecord> sweeps;
  std::map<TrialState, int> trials;
  std::vector<scheduler::WorkerRecord> workers;
  std::vector<LiveAttempt> live;
};

TEST_F(MigrationTest, EveryEarlierVersionHasAFixtureOfThatVersion) {
  for (int version = 1; version < SchemaVersion(); ++version) {
    ASSERT_TRUE(std::filesystem::exists(FixturePath(version)))
        << "write it with the program of that version: tests/coordinator/store/fixtures/README.md";
    const auto db = SqliteDb::Open(FolderOf(version) + "/coordinator.db", SqliteDb::Mode::kReadOnly, "");
    ASSERT_TRUE(db.ok()) << db.status();
    EXPECT_EQ(Value(**db, "PRAGMA user_version"), fmt::format("{}", version));
  }
}

TEST_F(MigrationTest, EveryEarlierVersionBecomesASoundFileOfToday) {
  for (int version = 1; version < SchemaVersion(); ++version) {
    const std::string data = FolderOf(version);
    ASSERT_TRUE(SqliteStore::Open({.path = data + "/coordinator.db"}).ok());
    const auto fresh = SqliteStore::Open({.path = folder_ / fmt::format("fresh-{}.db", version)});
    ASSERT_TRUE(fresh.ok());
    const auto db = SqliteDb::Open(data + "/coordinator.db", SqliteDb::Mode::kReadOnly, "");
    EXPECT_EQ(Value(**db, "PRAGMA integrity_check"), "ok");
    // The tables are those of a new file, column by column.
    const auto columns = [&](SqliteDb& of) {
      return Value(
          of,
          "SELECT group_concat(m.name || '.' || c.name || ' ' || c.type || ' ' || c.pk, '\n') FROM (SELECT * FROM "
          "sqlite_schema WHERE type = 'table' ORDER BY name) AS m JOIN pragma_table_info(m.name) AS c");
    };
    const auto new_db = SqliteDb::Open(folder_ / fmt::format("fresh-{}.db", version), SqliteDb::Mode::kReadOnly, "");
    EXPECT_EQ(columns(**db), columns(**new_db));
  }
}

TEST_F(MigrationTest, EveryEarlierVersionIsExaminedAndCopiedAsItIs) {
  for (int version = 1; version < SchemaVersion(); ++version) {
    const std::string data = FolderOf(version);
    {
      // A fixture is the database alone.
      const auto db = SqliteDb::Open(data + "/coordinator.db", SqliteDb::Mode::kReadWrite, "");
      ASSERT_TRUE((*db)->Execute("DELETE FROM artifacts").ok());
    }
    const auto report = upkeep::Examine(data);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->schema_version, version);
    EXPECT_THAT(report->Damage(), IsEmpty());
    ASSERT_EQ(report->findings.size(), 1u);
    EXPECT_THAT(report->findings[0].advice, ::testing::HasSubstr("migrates"));
    const std::string backup = folder_ / fmt::format("backup-{}", version);
    const std::string restored = folder_ / fmt::format("restored-{}", version);
    ASSERT_TRUE(upkeep::BackupData(data, backup).ok());
    ASSERT_TRUE(upkeep::RestoreData(backup, restored).ok());
    EXPECT_EQ(upkeep::Examine(restored)->schema_version, version);
    EXPECT_TRUE(SqliteStore::Open({.path = restored + "/coordinator.db"}).ok());
    EXPECT_THAT(upkeep::Examine(restored)->findings, IsEmpty());
  }
}

TEST_F(MigrationTest, Version1KeepsResultsAndLiveAttemptsAndLosesOnlyTheTokensThemselves) {
  const std::string data = FolderOf(1);
  const std::string token = "24f3ce619e0fbf405e4c625c3ca6ab21";
  ASSERT_NE(ReadFile(data + "/coordinator.db")->find(token), std::string::npos);
  const auto store = SqliteStore::Open({.path = data + "/coordinator.db"});
  ASSERT_TRUE(store.ok()) << store.status();
  Counting all;
  ASSERT_TRUE((*store)->Recover(all).ok());
  ASSERT_EQ(all.sweeps.size(), 1u);
  EXPECT_EQ(all.sweeps[0].id, "fixture");
  EXPECT_EQ(all.trials[TrialState::kSucceeded], 5);
  EXPECT_EQ(all.trials[TrialState::kRunning], 2);
  EXPECT_EQ(all.trials[TrialState::kQueued], 5);
  ASSERT_EQ(all.live.size(), 2u);
  EXPECT_EQ(all.live[1].trial, (scheduler::TrialKey{1, 6}));
  EXPECT_EQ(all.live[1].worker, "flaky");
  EXPECT_EQ(all.live[1].token_sha256, Sha256Hex(token)) << "its worker can go on";
  const auto snapshot = (*store)->Snapshot("fixture");
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_EQ(std::count_if(snapshot->trials.begin(), snapshot->trials.end(),
                          [](const auto& trial) { return trial.scores.contains("clip_i"); }),
            5);
  EXPECT_FALSE(snapshot->curves.empty());
}

TEST_F(MigrationTest, Version2KeepsEverythingAndHasNoJobsAndNoInputs) {
  const std::string data = FolderOf(2);
  const auto store = SqliteStore::Open({.path = data + "/coordinator.db"});
  ASSERT_TRUE(store.ok()) << store.status();
  Counting all;
  ASSERT_TRUE((*store)->Recover(all).ok());
  ASSERT_EQ(all.sweeps.size(), 1u);
  EXPECT_FALSE(all.sweeps[0].job.has_value());
  EXPECT_EQ(all.trials[TrialState::kSucceeded], 5);
  ASSERT_EQ(all.live.size(), 2u);
  EXPECT_EQ(all.live[0].token_sha256.size(), 64u);
  const auto db = SqliteDb::Open(data + "/coordinator.db", SqliteDb::Mode::kReadOnly, "");
  EXPECT_EQ(Value(**db, "SELECT count(*) FROM sweep_inputs"), "0");
}

// What their programs took for granted is written down in the sweeps, and they are still the same plan.
TEST_F(MigrationTest, EarlierSweepsGetVersion1sDefaults) {
  for (int version = 1; version <= 3; ++version) {
    const auto store = SqliteStore::Open({.path = FolderOf(version) + "/coordinator.db"});
    ASSERT_TRUE(store.ok()) << store.status();
    const absl::StatusOr<scheduler::SweepRecord> sweep = (*store)->GetSweep("fixture");
    ASSERT_TRUE(sweep.ok()) << sweep.status();
    v1::SweepSpec proto;
    ASSERT_TRUE(proto.ParseFromString(sweep->spec));
    const absl::StatusOr<plan::SweepSpec> spec = plan_proto::SpecFromProto(proto);
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->defaults, settings::SettingDefaults::OfVersion(1));
    const absl::StatusOr<plan::Plan> plan = plan::Plan::Create(*spec);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->spec(), *spec) << "canonical as it stands";
    EXPECT_EQ(plan->cell_count(), sweep->cells);
  }
}

// A step that is cut off leaves the version before it, and the next start does it whole.
TEST_F(MigrationTest, AStepThatFailsLeavesTheFileAsItWas) {
  const std::string path = FolderOf(1) + "/coordinator.db";
  {
    // Makes step 2 impossible: the column that it introduces is there already.
    const auto db = SqliteDb::Open(path, SqliteDb::Mode::kReadWrite, "");
    ASSERT_TRUE((*db)->Execute("ALTER TABLE attempts ADD COLUMN token_sha256 TEXT").ok());
  }
  EXPECT_FALSE(SqliteStore::Open({.path = path}).ok());
  {
    const auto db = SqliteDb::Open(path, SqliteDb::Mode::kReadWrite, "");
    EXPECT_EQ(Value(**db, "PRAGMA user_version"), "1");
    ASSERT_TRUE((*db)->Execute("ALTER TABLE attempts DROP COLUMN token_sha256").ok());
  }
  const auto store = SqliteStore::Open({.path = path});
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->CountTrials(1)->succeeded, 5);
}

}  // namespace
}  // namespace loupe::coordinator::store
