// What a failing disk, a damaged file or a foreign one does to the store.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <random>

#include "common/atomic_file.h"
#include "coordinator/store/migrations.h"
#include "coordinator/store/sqlite_store.h"
#include "coordinator/store/upkeep/doctor.h"
#include "tests/coordinator/store/store_fixture.h"
#include "tests/testing/memory_vfs.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::store {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using Fault = testing::MemoryVfs::Fault;

std::unique_ptr<SqliteStore> OpenOn(const testing::MemoryVfs& disk) {
  absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open({.path = "/db", .vfs = disk.name()});
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

// Fails the n-th write or sync of a commit, for every n until the commit gets through: once and for ever.
class FaultTest : public ::testing::TestWithParam<std::tuple<Fault, bool>> {};

TEST_P(FaultTest, ACommitIsWholeOrNotThereAndTheStoreGoesOnWhenTheDiskDoes) {
  const auto [fault, persistent] = GetParam();
  for (int64_t n = 1; n < 200; ++n) {
    testing::MemoryVfs disk;
    std::unique_ptr<SqliteStore> store = OpenOn(disk);
    ASSERT_TRUE(store->Commit({NewSweep(1, "before")}).ok());
    disk.FailAt(n, fault, persistent);
    const int64_t operations = disk.operations();
    const absl::Status status = store->Commit({NewSweep(2, "after")});
    const bool reached = disk.operations() - operations >= n;
    disk.Heal();
    if (!status.ok()) {
      EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kResourceExhausted, absl::StatusCode::kUnavailable)) << status;
      EXPECT_EQ(store->GetSweep("after").status().code(), absl::StatusCode::kNotFound) << n;
    } else {
      EXPECT_TRUE(store->GetSweep("after").ok()) << n;
    }
    EXPECT_TRUE(store->GetSweep("before").ok()) << n;
    EXPECT_TRUE(store->Commit({NewSweep(3, "later")}).ok()) << n;
    if (!reached) {
      EXPECT_GT(n, 2) << "the faults must have hit the commit";
      return;
    }
  }
  FAIL() << "the commit never got through";
}

INSTANTIATE_TEST_SUITE_P(Kinds, FaultTest,
                         ::testing::Combine(::testing::Values(Fault::kFull, Fault::kIoError), ::testing::Bool()));

TEST(PowerLossTest, AtEveryWriteOfACommitTheCommittedSurvivesAndTheRestIsWholeOrNotThere) {
  std::mt19937_64 random(1);
  int crashed = 0;
  for (int64_t n = 1; n < 200; ++n) {
    testing::MemoryVfs disk;
    std::unique_ptr<SqliteStore> store = OpenOn(disk);
    ASSERT_TRUE(store->Commit({NewSweep(1, "before")}).ok());
    disk.FreezeAt(n);
    const bool acknowledged = store->Commit({NewSweep(2, "after")}).ok();
    const bool frozen = disk.frozen();
    disk.FreezeAt(0);
    store.reset();
    disk.Crash(random);
    store = OpenOn(disk);
    ASSERT_NE(store, nullptr);
    EXPECT_TRUE(store->GetSweep("before").ok()) << n;
    const bool there = store->GetSweep("after").ok();
    if (acknowledged) {
      EXPECT_TRUE(there) << "acknowledged and lost at " << n;
    }
    if (there) {
      EXPECT_EQ(store->CountTrials(2)->total(), 6);
    }
    if (!frozen) break;
    ++crashed;
  }
  EXPECT_GT(crashed, 2);
}

TEST(PowerLossTest, ADiskThatForgetsSyncsLosesWhatWasAcknowledged) {
  std::mt19937_64 random(1);
  testing::MemoryVfs disk;
  std::unique_ptr<SqliteStore> store = OpenOn(disk);
  ASSERT_TRUE(store->Commit({NewSweep(1, "before")}).ok());
  store.reset();
  store = OpenOn(disk);
  disk.IgnoreSyncs(true);
  int lost = 0;
  for (scheduler::SweepKey key = 2; key < 12; ++key) {
    ASSERT_TRUE(store->Commit({NewSweep(key, "sweep-" + std::to_string(key))}).ok());
  }
  disk.FreezeAt(0);
  store.reset();
  disk.Crash(random);
  disk.IgnoreSyncs(false);
  absl::StatusOr<std::unique_ptr<SqliteStore>> reopened = SqliteStore::Open({.path = "/db", .vfs = disk.name()});
  for (scheduler::SweepKey key = 2; key < 12; ++key) {
    if (!reopened.ok() || !(*reopened)->GetSweep("sweep-" + std::to_string(key)).ok()) ++lost;
  }
  EXPECT_GT(lost, 0) << "if nothing is lost here, the power-loss test above shows nothing";
}

TEST(DamageTest, ATruncatedWalLosesItsTailAndNothingElse) {
  testing::MemoryVfs disk;
  std::unique_ptr<SqliteStore> store = OpenOn(disk);
  ASSERT_TRUE(store->Commit({NewSweep(1, "before")}).ok());
  const size_t whole = disk.ReadFile("/db-wal").size();
  ASSERT_TRUE(store->Commit({NewSweep(2, "after")}).ok());
  const std::string database = disk.ReadFile("/db");
  const std::string wal = disk.ReadFile("/db-wal");
  testing::MemoryVfs other;
  other.WriteFile("/db", database);
  other.WriteFile("/db-wal", wal.substr(0, whole + 100));
  const std::unique_ptr<SqliteStore> damaged = OpenOn(other);
  EXPECT_TRUE(damaged->GetSweep("before").ok());
  EXPECT_EQ(damaged->GetSweep("after").status().code(), absl::StatusCode::kNotFound);
}

TEST(DamageTest, AFileThatIsNoDatabaseIsRefusedInASentence) {
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder / "db", std::string(8192, 'x')).ok());
  const absl::Status status = SqliteStore::Open({.path = folder / "db"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("restore a backup"));
}

TEST(DamageTest, ADatabaseOfAnotherProgramIsRefusedAndLeftAlone) {
  testing::TempFolder folder;
  {
    auto db = SqliteDb::Open(folder / "db", SqliteDb::Mode::kReadWriteCreate, "");
    ASSERT_TRUE((*db)->Execute("CREATE TABLE notes (text TEXT)").ok());
  }
  const absl::Status status = SqliteStore::Open({.path = folder / "db"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("another program"));
}

TEST(DamageTest, ANewerSchemaIsRefusedWithBothVersions) {
  testing::TempFolder folder;
  ASSERT_TRUE(SqliteStore::Open({.path = folder / "db"}).ok());
  {
    auto db = SqliteDb::Open(folder / "db", SqliteDb::Mode::kReadWrite, "");
    ASSERT_TRUE((*db)->Execute("PRAGMA user_version = 99").ok());
  }
  const absl::Status status = SqliteStore::Open({.path = folder / "db"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("schema version 99"));
}

TEST(DamageTest, ACorruptPageIsFoundByDoctorAndIsAnErrorWhereItIsRead) {
  testing::TempFolder folder;
  const std::string path = folder / "coordinator.db";
  {
    const auto store = SqliteStore::Open({.path = path});
    ASSERT_TRUE((*store)->Commit({NewSweep(1, "sweep", 500, 4)}).ok());
  }
  const std::string bytes = *ReadFile(path);
  ASSERT_GT(bytes.size(), 20u * 4096);
  int noticed = 0;
  int pages = 0;
  for (size_t at = 4096; at < bytes.size(); at += 4096, ++pages) {
    std::string damaged = bytes;
    damaged.replace(at, 4096, std::string(4096, '\x5a'));
    ASSERT_TRUE(WriteFileAtomically(path, damaged).ok());
    const auto report = upkeep::Examine(folder.path());
    noticed += !report.ok() || !report->Damage().empty() ? 1 : 0;
    // Opening and reading it answers with an error or with what is there; it never crashes.
    if (const auto store = SqliteStore::Open({.path = path}); store.ok()) {
      const absl::Status read = (*store)->ListTrials(1, {.limit = 2000}).status();
      EXPECT_TRUE(read.ok() || absl::IsDataLoss(read)) << read;
    }
  }
  EXPECT_EQ(noticed, pages) << "each page was overwritten in turn";
}

// For root no file is read-only: there a read-only connection shows the same answer.
TEST(DamageTest, AFileThatMayNotBeWrittenIsRefusedWithAdvice) {
  testing::TempFolder folder;
  const std::string path = folder / "coordinator.db";
  { ASSERT_TRUE((*SqliteStore::Open({.path = path}))->Commit({NewSweep(1, "sweep")}).ok()); }
  ASSERT_EQ(::chmod(path.c_str(), 0444), 0);
  absl::Status refused;
  if (::geteuid() == 0) {
    const auto db = SqliteDb::Open(path, SqliteDb::Mode::kReadOnly, "");
    ASSERT_TRUE(db.ok()) << db.status();
    refused = (*db)->Execute("PRAGMA query_only=OFF; DELETE FROM sweeps");
  } else {
    refused = SqliteStore::Open({.path = path}).status();
  }
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("make it writable"));
}

TEST(DamageTest, AMissingFolderIsNamed) {
  const absl::Status status = SqliteStore::Open({.path = "/nonexistent/coordinator.db"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nonexistent/coordinator.db"));
}

TEST(ReaderTest, ALongReaderSeesItsSnapshotAndDoesNotHoldUpTheWriter) {
  testing::TempFolder folder;
  auto store = SqliteStore::Open({.path = folder / "db"});
  ASSERT_TRUE((*store)->Commit({NewSweep(1, "before")}).ok());
  auto reader = SqliteDb::Open(folder / "db", SqliteDb::Mode::kReadOnly, "");
  ASSERT_TRUE((*reader)->Execute("BEGIN").ok());
  const auto count = [&] {
    int64_t sweeps = 0;
    EXPECT_TRUE(
        (*reader)->ForEach("SELECT count(*) FROM sweeps", [&](const SqliteRow& row) { sweeps = row.Int(0); }).ok());
    return sweeps;
  };
  EXPECT_EQ(count(), 1);
  for (scheduler::SweepKey key = 2; key < 50; ++key) {
    ASSERT_TRUE((*store)->Commit({NewSweep(key, "sweep-" + std::to_string(key))}).ok());
  }
  EXPECT_EQ(count(), 1);
  ASSERT_TRUE((*reader)->Execute("COMMIT").ok());
  EXPECT_EQ(count(), 49);
}

TEST(ReaderTest, TheWalGrowsUnderALongReaderAndIsUsedAgainAfterIt) {
  testing::TempFolder folder;
  auto store = SqliteStore::Open({.path = folder / "db"});
  ASSERT_TRUE((*store)->Commit({NewSweep(1, "before")}).ok());
  scheduler::SweepKey key = 1;
  const auto commit_a_lot = [&] {
    for (int i = 0; i < 24; ++i) {
      ++key;
      scheduler::InsertSweep large = NewSweep(key, "sweep-" + std::to_string(key), 1, 1);
      large.sweep.spec = std::string(1 << 20, 'x');
      ASSERT_TRUE((*store)->Commit({large}).ok());
    }
  };
  const auto wal_bytes = [&] { return std::filesystem::file_size(folder / "db-wal"); };
  auto reader = SqliteDb::Open(folder / "db", SqliteDb::Mode::kReadOnly, "");
  ASSERT_TRUE((*reader)->Execute("BEGIN; SELECT count(*) FROM sweeps").ok());
  commit_a_lot();
  const auto under_reader = wal_bytes();
  EXPECT_GT(under_reader, 16u << 20) << "more than a WAL that is checkpointed in time: the reader holds it up";
  ASSERT_TRUE((*reader)->Execute("COMMIT").ok());
  commit_a_lot();
  EXPECT_LE(wal_bytes(), under_reader + (16u << 20)) << "without the reader it is not written on and on";
}

}  // namespace
}  // namespace loupe::coordinator::store
