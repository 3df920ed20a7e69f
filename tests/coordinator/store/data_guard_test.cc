// Data that is not what it was: files of a data folder that somebody removed or left out.
#include "coordinator/store/data_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/atomic_file.h"
#include "coordinator/store/lock_file.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/coordinator/store/store_fixture.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::store {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class DataGuardTest : public ::testing::Test {
 protected:
  std::unique_ptr<SqliteStore> Open() {
    auto store = SqliteStore::Open({.path = database_});
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  std::string Refusal() {
    const absl::Status status = CheckDataFolder(folder_.path());
    EXPECT_TRUE(status.ok() || absl::IsFailedPrecondition(status)) << status;
    return std::string(status.message());
  }
  // A commit of its own.
  static absl::Status Commit(SqliteStore& store, const std::string& worker) {
    scheduler::WorkerRecord record;
    record.id = worker;
    record.session = "s";
    return store.Commit({scheduler::UpsertWorker{record}});
  }
  static int Workers(const std::string& database) {
    auto store = SqliteStore::OpenToRead({.path = database});
    EXPECT_TRUE(store.ok()) << store.status();
    struct Sink : RecoverySink {
      void OnSweep(scheduler::SweepRecord) override {}
      void OnTrial(scheduler::SweepKey, const TrialSeed&) override {}
      void OnInput(scheduler::RecordInput) override {}
      void OnRung(const scheduler::NoteRung&) override {}
      void OnWorker(scheduler::WorkerRecord) override { ++workers; }
      void OnLiveAttempt(LiveAttempt) override {}
      void OnRequest(scheduler::RecordRequest) override {}
      int workers = 0;
    } sink;
    EXPECT_TRUE((*store)->Recover(sink).ok());
    return sink.workers;
  }

  testing::TempFolder folder_;
  const std::string database_ = folder_ / "coordinator.db";
};

TEST_F(DataGuardTest, AnEmptyFolderAndAWholeOneAreFine) {
  EXPECT_EQ(Refusal(), "");
  Open();
  fs::create_directory(folder_ / "artifacts");
  EXPECT_EQ(Refusal(), "");
}

TEST_F(DataGuardTest, TokensAddedBeforeTheFirstStartAreFine) {
  ASSERT_TRUE(WriteFileAtomically(folder_ / "tokens", "").ok());
  EXPECT_EQ(Refusal(), "");
}

TEST_F(DataGuardTest, ADatabaseThatIsGoneIsNoNewBeginning) {
  fs::create_directory(folder_ / "artifacts");
  EXPECT_THAT(Refusal(), HasSubstr("is missing, and 'artifacts' beside it is of a coordinator that has run here"));
  ASSERT_TRUE(WriteFileAtomically(database_, "").ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "audit.log", "").ok());
  EXPECT_THAT(Refusal(), HasSubstr("is empty, and 'artifacts' and 'audit.log' beside it are"));
}

TEST_F(DataGuardTest, ALogThatIsGoneAfterAKillIsRefused) {
  const std::string copy = folder_ / "killed";
  fs::create_directory(copy);
  {
    const auto store = Open();
    const RunningMark mark(folder_.path());
    ASSERT_TRUE(Commit(*store, "w").ok());
    // What a kill leaves behind.
    for (const char* name : {"coordinator.db", "coordinator.db-wal", "running"}) {
      fs::copy_file(folder_ / name, copy + "/" + name);
      fs::last_write_time(copy + "/" + name, fs::last_write_time(folder_ / name));
    }
  }
  EXPECT_TRUE(CheckDataFolder(copy).ok());
  fs::rename(copy + "/coordinator.db-wal", copy + "/kept");
  fs::remove(copy + "/coordinator.db-shm");
  const absl::Status refused = CheckDataFolder(copy);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("coordinator.db-wal', which holds its last commits, is gone"));
  fs::rename(copy + "/kept", copy + "/coordinator.db-wal");
  EXPECT_TRUE(CheckDataFolder(copy).ok());
  EXPECT_EQ(Workers(copy + "/coordinator.db"), 1);
  // A clean stop leaves no mark, and needs no log.
  EXPECT_FALSE(fs::exists(folder_ / "running"));
  EXPECT_EQ(Refusal(), "");
}

TEST_F(DataGuardTest, ALogThatIsRemovedMeanwhileLosesNothing) {
  {
    const auto store = Open();
    ASSERT_TRUE(Commit(*store, "before").ok());
    ASSERT_TRUE(fs::remove(database_ + "-wal"));
    const absl::Status during = Commit(*store, "during");
    EXPECT_TRUE(during.ok()) << during;
    EXPECT_TRUE(fs::exists(database_ + "-wal")) << "begun anew";
    ASSERT_TRUE(Commit(*store, "after").ok());
    EXPECT_EQ(Workers(database_), 3);
  }
  EXPECT_EQ(Workers(database_), 3);
}

TEST_F(DataGuardTest, AnUnlinkedDatabaseAcceptsNothing) {
  const auto store = Open();
  ASSERT_TRUE(Commit(*store, "before").ok());
  fs::rename(database_, folder_ / "elsewhere");
  const absl::Status status = Commit(*store, "after");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("was removed or replaced while the coordinator runs"));
  ASSERT_TRUE(WriteFileAtomically(database_, "").ok());
  EXPECT_FALSE(Commit(*store, "replaced").ok());
  fs::rename(folder_ / "elsewhere", database_);
  EXPECT_TRUE(Commit(*store, "back").ok());
}

TEST_F(DataGuardTest, ARemovedLockFileLetsNobodyIn) {
  const auto first = LockFile::Acquire(folder_ / "lock");
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(fs::remove(folder_ / "lock"));
  EXPECT_TRUE(absl::IsFailedPrecondition(LockFile::Acquire(folder_ / "lock").status()));
}

}  // namespace
}  // namespace loupe::coordinator::store
