#include "coordinator/store/upkeep/snapshots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "coordinator/store/artifact_folder.h"
#include "coordinator/store/sqlite_store.h"
#include "coordinator/store/upkeep/copies.h"
#include "coordinator/store/upkeep/doctor.h"
#include "tests/coordinator/store/store_fixture.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kNoon = absl::FromCivil(absl::CivilSecond(2026, 11, 22, 12, 0, 0), absl::UTCTimeZone());

class SnapshotsTest : public ::testing::Test {
 protected:
  SnapshotsTest() {
    std::filesystem::create_directory(options_.data_folder);
    artifacts_ = *ArtifactFolder::Open(options_.data_folder + "/artifacts");
    store_ = *SqliteStore::Open({.path = options_.data_folder + "/coordinator.db"});
    auto upload = artifacts_->Begin();
    EXPECT_TRUE((*upload)->Append("hello").ok());
    EXPECT_TRUE((*upload)->Finish(5, sha256_).ok());
    const scheduler::TrialKey trial{1, 0};
    EXPECT_TRUE(store_
                    ->Commit({NewSweep(1, "first"), Running(trial, 1), Start(trial, 1),
                              scheduler::RecordArtifact{trial, {"log.txt", "text/plain", 5, sha256_, 1}}})
                    .ok());
  }
  std::string ArtifactOf(const std::string& name) const {
    return options_.to + "/" + name + "/artifacts/" + sha256_.substr(0, 2) + "/" + sha256_;
  }

  testing::TempFolder folder_;
  upkeep::SnapshotOptions options_{
      .data_folder = folder_ / "data", .to = folder_ / "snapshots", .every = absl::Hours(1), .keep = 3};
  const std::string sha256_ = Sha256Hex("hello");
  std::unique_ptr<ArtifactFolder> artifacts_;
  std::unique_ptr<SqliteStore> store_;
};

TEST_F(SnapshotsTest, TheNewestAreKeptAndWhatIsNoSnapshotIsLeftAlone) {
  std::filesystem::create_directories(options_.to + "/loupe-notes");
  std::filesystem::create_directories(options_.to + "/loupe-20261122T120000");
  for (int hour = 0; hour < 5; ++hour) ASSERT_TRUE(upkeep::TakeSnapshot(options_, kNoon + absl::Hours(hour)).ok());
  EXPECT_THAT(*upkeep::ListSnapshots(options_.to),
              ElementsAre(kNoon + absl::Hours(2), kNoon + absl::Hours(3), kNoon + absl::Hours(4)));
  EXPECT_TRUE(std::filesystem::exists(options_.to + "/loupe-notes"));
  EXPECT_TRUE(std::filesystem::exists(options_.to + "/loupe-20261122T120000"));
}

TEST_F(SnapshotsTest, WhatAKillLeftOfOneGoesBeforeTheNext) {
  std::filesystem::create_directories(options_.to + "/loupe-20261122T120000Z.partial/artifacts");
  std::filesystem::create_directories(options_.to + "/my.partial");
  ASSERT_TRUE(upkeep::TakeSnapshot(options_, kNoon + absl::Hours(1)).ok());
  EXPECT_THAT(*upkeep::ListSnapshots(options_.to), ElementsAre(kNoon + absl::Hours(1)));
  EXPECT_FALSE(std::filesystem::exists(options_.to + "/loupe-20261122T120000Z.partial"));
  EXPECT_TRUE(std::filesystem::exists(options_.to + "/my.partial"));
}

TEST_F(SnapshotsTest, EachRestoresByItselfThoughTheyShareTheirFiles) {
  ASSERT_TRUE(upkeep::TakeSnapshot(options_, kNoon).ok());
  ASSERT_TRUE(store_->Commit({NewSweep(2, "later")}).ok());
  ASSERT_TRUE(upkeep::TakeSnapshot(options_, kNoon + absl::Hours(1)).ok());
  struct stat info {};
  ASSERT_EQ(::stat(ArtifactOf("loupe-20261122T130000Z").c_str(), &info), 0);
  EXPECT_EQ(info.st_nlink, 2u);
  std::filesystem::remove_all(options_.to + "/loupe-20261122T120000Z");
  ASSERT_TRUE(upkeep::RestoreData(options_.to + "/loupe-20261122T130000Z", folder_ / "restored").ok());
  EXPECT_THAT(upkeep::Examine(folder_ / "restored")->findings, IsEmpty());
  EXPECT_TRUE((*SqliteStore::Open({.path = folder_ / "restored/coordinator.db"}))->GetSweep("later").ok());
}

TEST_F(SnapshotsTest, AFileThatWasDamagedInTheLastSnapshotIsCopiedAfresh) {
  ASSERT_TRUE(upkeep::TakeSnapshot(options_, kNoon).ok());
  ASSERT_TRUE(WriteFileAtomically(ArtifactOf("loupe-20261122T120000Z"), "hellO").ok());
  ASSERT_TRUE(upkeep::TakeSnapshot(options_, kNoon + absl::Hours(1)).ok());
  EXPECT_EQ(*ReadFile(ArtifactOf("loupe-20261122T130000Z")), "hello");
}

TEST_F(SnapshotsTest, AFailureLeavesTheOlderOnesAndNothingHalf) {
  ASSERT_TRUE(upkeep::TakeSnapshot(options_, kNoon).ok());
  options_.keep = 1;
  std::filesystem::remove(*artifacts_->PathOf(sha256_));
  std::filesystem::remove(ArtifactOf("loupe-20261122T120000Z"));
  EXPECT_FALSE(upkeep::TakeSnapshot(options_, kNoon + absl::Hours(1)).ok());
  EXPECT_THAT(*upkeep::ListSnapshots(options_.to), ElementsAre(kNoon));
}

TEST_F(SnapshotsTest, OneIsDueAtOnceWhenThereIsNoneAndAnIntervalAfterTheLatest) {
  EXPECT_EQ(upkeep::NextSnapshotTime(options_, {}, kNoon), kNoon);
  EXPECT_EQ(upkeep::NextSnapshotTime(options_, {kNoon - absl::Minutes(50)}, kNoon), kNoon + absl::Minutes(10));
  EXPECT_LT(upkeep::NextSnapshotTime(options_, {kNoon - absl::Hours(5)}, kNoon), kNoon) << "overdue";
  EXPECT_EQ(upkeep::NextSnapshotTime(options_, {kNoon + absl::Hours(9)}, kNoon), kNoon) << "the clock was set back";
}

TEST_F(SnapshotsTest, TheThreadTakesOneWithoutBeingAsked) {
  const upkeep::SnapshotThread thread(options_);
  while (upkeep::ListSnapshots(options_.to)->empty()) std::this_thread::yield();
}

}  // namespace
}  // namespace loupe::coordinator::store
