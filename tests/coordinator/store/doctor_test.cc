// Backup, restore and doctor on a real folder.
#include "coordinator/store/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "coordinator/store/artifact_folder.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/coordinator/store/store_fixture.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DoctorTest : public ::testing::Test {
 protected:
  DoctorTest() {
    std::filesystem::create_directory(data_);
    artifacts_ = *ArtifactFolder::Open(data_ + "/artifacts");
    store_ = *SqliteStore::Open({.path = data_ + "/coordinator.db"});
    const TrialKey trial{1, 0};
    EXPECT_TRUE(store_->Commit({NewSweep(1, "first"), Running(trial, 1), Start(trial, 1),
                                RecordArtifact{trial, {"log.txt", "text/plain", 5, Put("hello"), 1}}})
                    .ok());
    EXPECT_TRUE(store_->Commit(Accepting(trial, 1, 0.5)).ok());
  }

  std::string Put(const std::string& content) {
    auto upload = artifacts_->Begin();
    EXPECT_TRUE((*upload)->Append(content).ok());
    const std::string sha256 = Sha256Hex(content);
    EXPECT_TRUE((*upload)->Finish(static_cast<int64_t>(content.size()), sha256).ok());
    return sha256;
  }

  testing::TempFolder folder_;
  const std::string data_ = folder_ / "data";
  std::unique_ptr<ArtifactFolder> artifacts_;
  std::unique_ptr<SqliteStore> store_;
};

TEST_F(DoctorTest, ASoundFolderHasNoFindings) {
  const auto findings = Examine(data_);
  ASSERT_TRUE(findings.ok()) << findings.status();
  EXPECT_THAT(*findings, IsEmpty());
}

TEST_F(DoctorTest, EachKindOfDamageIsNamed) {
  const std::string sha256 = Sha256Hex("hello");
  ASSERT_TRUE(WriteFileAtomically(*artifacts_->PathOf(sha256), "hellO").ok());
  EXPECT_THAT(*Examine(data_), ElementsAre(HasSubstr("content has changed")));
  std::filesystem::remove(*artifacts_->PathOf(sha256));
  EXPECT_THAT(*Examine(data_), ElementsAre(HasSubstr("its file is missing")));
  Put("hello");
  Put("nobody's");
  EXPECT_THAT(*Examine(data_), ElementsAre(HasSubstr("no attempt refers to it")));
  auto db = SqliteDb::Open(data_ + "/coordinator.db", SqliteDb::Mode::kReadWrite, "");
  ASSERT_TRUE((*db)->Execute("UPDATE trials SET state = 4 WHERE trial_index = 0").ok());
  EXPECT_THAT(*Examine(data_), ElementsAre(HasSubstr("has a result, but has not succeeded"), HasSubstr("no attempt")));
}

TEST_F(DoctorTest, ABackupMadeWhileTheStoreIsOpenRestoresToTheSameState) {
  ASSERT_TRUE(BackupData(data_, folder_ / "backup").ok());
  ASSERT_TRUE(store_->Commit({NewSweep(2, "later")}).ok());
  const absl::Status restored = RestoreData(folder_ / "backup", folder_ / "restored");
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_THAT(*Examine(folder_ / "restored"), IsEmpty());
  auto copy = SqliteStore::Open({.path = folder_ / "restored/coordinator.db"});
  EXPECT_EQ((*copy)->GetTrial({1, 0})->scores.at("clip_i"), 0.5);
  EXPECT_EQ((*copy)->GetSweep("later").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(DoctorTest, NothingIsOverwrittenAndADamagedSourceIsNotCopied) {
  std::filesystem::create_directory(folder_ / "backup");
  EXPECT_EQ(BackupData(data_, folder_ / "backup").code(), absl::StatusCode::kAlreadyExists);
  std::filesystem::remove(folder_ / "backup");
  ASSERT_TRUE(WriteFileAtomically(*artifacts_->PathOf(Sha256Hex("hello")), "hellO").ok());
  EXPECT_EQ(BackupData(data_, folder_ / "backup").code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "backup"));
  EXPECT_EQ(RestoreData(folder_ / "backup", data_).code(), absl::StatusCode::kAlreadyExists);
}

TEST(ArtifactNameTest, OnlyPlainNamesPass) {
  for (const char* good : {"samples.png", "a", "adapter-1_b.safetensors"}) EXPECT_TRUE(CheckArtifactName(good).ok()) << good;
  for (const std::string& bad : std::vector<std::string>{std::string(), std::string("."), std::string("../x"), std::string("a/b"), std::string("a\\b"),
                                std::string("a b"), std::string("a\0b", 3), std::string(129, 'a')}) {
    EXPECT_EQ(CheckArtifactName(bad).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace loupe::coordinator
