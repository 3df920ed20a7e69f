// Copies of a data folder: what is in them, and what is left when they fail.
#include "coordinator/store/upkeep/copies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>

#include "common/atomic_file.h"
#include "coordinator/store/upkeep/doctor.h"
#include "tests/coordinator/store/data_fixture.h"

namespace loupe::coordinator::store {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CopiesTest : public DataTest {
 protected:
  static bool Exists(const std::string& path) { return std::filesystem::exists(path); }

  // No copy, no part of one.
  void ExpectNoBackup() const {
    EXPECT_FALSE(Exists(backup_));
    EXPECT_FALSE(Exists(backup_ + ".partial"));
  }

  const std::string backup_ = folder_ / "backup";
  const std::string restored_ = folder_ / "restored";
};

TEST_F(CopiesTest, ABackupMadeWhileTheStoreIsOpenRestoresToTheSameState) {
  const auto copied = upkeep::BackupData(data_, backup_ + "/");
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_EQ(copied->trials, 6);
  EXPECT_EQ(copied->artifact_bytes, 5);
  EXPECT_EQ(std::filesystem::status(backup_).permissions(), std::filesystem::perms::owner_all);
  ASSERT_TRUE(store_->Commit({NewSweep(2, "later")}).ok());
  const auto restored = upkeep::RestoreData(backup_, restored_);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->trials, 6);
  EXPECT_THAT(upkeep::Examine(restored_)->findings, IsEmpty());
  auto copy = SqliteStore::Open({.path = restored_ + "/coordinator.db"});
  EXPECT_EQ((*copy)->GetTrial({1, 0})->scores.at("clip_i"), 0.5);
  EXPECT_EQ((*copy)->GetSweep("later").status().code(), absl::StatusCode::kNotFound);
}

// Why there is a command for it.
TEST_F(CopiesTest, ACopyOfTheDatabaseFileAloneMissesWhatIsInTheWalAndABackupDoesNot) {
  ASSERT_TRUE(store_->Commit({NewSweep(2, "latest")}).ok());
  std::filesystem::create_directory(folder_ / "cp");
  std::filesystem::copy_file(data_ + "/coordinator.db", folder_ / "cp/coordinator.db");
  const auto copied = SqliteStore::Open({.path = folder_ / "cp/coordinator.db"});
  EXPECT_FALSE(copied.ok() && (*copied)->GetSweep("latest").ok());
  ASSERT_TRUE(upkeep::BackupData(data_, backup_).ok());
  const auto backed_up = SqliteStore::Open({.path = backup_ + "/coordinator.db"});
  ASSERT_TRUE(backed_up.ok()) << backed_up.status();
  EXPECT_TRUE((*backed_up)->GetSweep("latest").ok());
}

TEST_F(CopiesTest, NothingIsOverwritten) {
  std::filesystem::create_directory(backup_);
  EXPECT_EQ(upkeep::BackupData(data_, backup_).status().code(), absl::StatusCode::kAlreadyExists);
  std::filesystem::remove(backup_);
  ASSERT_TRUE(upkeep::BackupData(data_, backup_).ok());
  EXPECT_EQ(upkeep::RestoreData(backup_, data_).status().code(), absl::StatusCode::kAlreadyExists);
  std::filesystem::create_directory(restored_);
  ASSERT_TRUE(WriteFileAtomically(restored_ + "/notes", "mine").ok());
  const absl::Status refused = upkeep::RestoreData(backup_, restored_).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("notes"));
  std::filesystem::remove(restored_ + "/notes");
  EXPECT_TRUE(upkeep::RestoreData(backup_, restored_).ok()) << "an empty folder is as good as none";
}

TEST_F(CopiesTest, ADamagedFolderIsNotBackedUp) {
  ASSERT_TRUE(WriteFileAtomically(*artifacts_->PathOf(Sha256Hex("hello")), "hellO").ok());
  EXPECT_EQ(upkeep::BackupData(data_, backup_).status().code(), absl::StatusCode::kDataLoss);
  ExpectNoBackup();
  EXPECT_EQ(upkeep::BackupData(folder_ / "nothing", backup_).status().code(), absl::StatusCode::kNotFound);
  ExpectNoBackup();
}

TEST_F(CopiesTest, ADamagedBackupIsRefusedBeforeAnythingIsWritten) {
  ASSERT_TRUE(upkeep::BackupData(data_, backup_).ok());
  const std::string database = *ReadFile(backup_ + "/coordinator.db");
  // Each page in turn: every one matters to what is restored.
  for (size_t at = 0; at < database.size(); at += 4096) {
    std::string damaged = database;
    damaged.replace(at, 4096, std::string(4096, '\x5a'));
    ASSERT_TRUE(WriteFileAtomically(backup_ + "/coordinator.db", damaged).ok());
    EXPECT_EQ(upkeep::RestoreData(backup_, restored_).status().code(), absl::StatusCode::kDataLoss) << at / 4096;
    EXPECT_FALSE(Exists(restored_));
  }
  ASSERT_TRUE(WriteFileAtomically(backup_ + "/coordinator.db", database).ok());
  std::filesystem::remove_all(backup_ + "/artifacts");
  EXPECT_FALSE(upkeep::RestoreData(backup_, restored_).ok());
  EXPECT_FALSE(Exists(restored_));
}

TEST_F(CopiesTest, WorkThatIsInterruptedLeavesNothing) {
  // At every step of the work in turn.
  for (int steps = 0; steps < 1000; ++steps) {
    int left = steps;
    const auto copied = upkeep::BackupData(data_, backup_, "", [&](const WorkProgress&) { return left-- > 0; });
    if (copied.ok()) {
      EXPECT_GT(steps, 0) << "nothing ever asked whether to go on";
      break;
    }
    EXPECT_EQ(copied.status().code(), absl::StatusCode::kCancelled) << copied.status();
    ExpectNoBackup();
  }
  for (int steps = 0; steps < 1000; ++steps) {
    int left = steps;
    const auto restored = upkeep::RestoreData(backup_, restored_, [&](const WorkProgress&) { return left-- > 0; });
    if (restored.ok()) return;
    EXPECT_EQ(restored.status().code(), absl::StatusCode::kCancelled) << restored.status();
    EXPECT_FALSE(Exists(restored_));
  }
  FAIL() << "it never came to its end";
}

TEST_F(CopiesTest, WhatAKillLeftIsNoCopyAndInNobodysWay) {
  std::filesystem::create_directories(backup_ + ".partial");
  ASSERT_TRUE(WriteFileAtomically(backup_ + ".partial/coordinator.db", "half").ok());
  ASSERT_TRUE(upkeep::BackupData(data_, backup_).ok());
  EXPECT_FALSE(Exists(backup_ + ".partial"));
  std::filesystem::create_directories(restored_ + "/restore.partial");
  std::filesystem::create_directories(restored_ + "/artifacts/ab");
  ASSERT_TRUE(WriteFileAtomically(restored_ + "/artifacts/ab/half", "half").ok());
  const auto restored = upkeep::RestoreData(backup_, restored_);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_FALSE(Exists(restored_ + "/restore.partial"));
  EXPECT_FALSE(Exists(restored_ + "/artifacts/ab"));
}

// A disk that fills up at any point: of the database's copy, of an artifact's.
TEST_F(CopiesTest, ADiskThatFillsUpIsAnErrorAndLeavesNothing) {
  std::string noise;
  for (uint64_t i = 0; noise.size() < 300000; ++i) noise += Sha256Hex(std::to_string(i));
  ASSERT_TRUE(store_
                  ->Commit({Running({1, 1}, 1), Start({1, 1}, 1),
                            scheduler::RecordArtifact{
                                {1, 1}, {"big.bin", "", static_cast<int64_t>(noise.size()), Put(noise), 1}}})
                  .ok());
  ASSERT_TRUE(upkeep::BackupData(data_, folder_ / "sound").ok());
  const std::string disk = folder_ / "disk";
  std::filesystem::create_directory(disk);
  bool succeeded = false;
  for (int kilobytes = 64; kilobytes <= 1024 && !succeeded; kilobytes += 64) {
    if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, ("size=" + std::to_string(kilobytes) + "k").c_str()) != 0) {
      GTEST_SKIP() << "this user may not mount a small file system";
    }
    const absl::Status backed_up = upkeep::BackupData(data_, disk + "/backup").status();
    if (!backed_up.ok()) {
      EXPECT_TRUE(absl::IsResourceExhausted(backed_up)) << backed_up;
      EXPECT_TRUE(std::filesystem::is_empty(disk)) << kilobytes;
    }
    std::filesystem::remove_all(disk + "/backup");
    const absl::Status restored = upkeep::RestoreData(folder_ / "sound", disk + "/data").status();
    if (!restored.ok()) {
      EXPECT_TRUE(absl::IsResourceExhausted(restored)) << restored;
      EXPECT_TRUE(std::filesystem::is_empty(disk)) << kilobytes;
    }
    EXPECT_TRUE(kilobytes > 64 || (!backed_up.ok() && !restored.ok())) << "it never filled up";
    succeeded = backed_up.ok() && restored.ok();
    ::umount2(disk.c_str(), MNT_DETACH);
  }
  EXPECT_TRUE(succeeded) << "with enough space it succeeds";
}

}  // namespace
}  // namespace loupe::coordinator::store
