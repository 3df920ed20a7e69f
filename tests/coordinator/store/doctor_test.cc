// The doctor on a sound folder, and on one with each kind of damage.
#include "coordinator/store/upkeep/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "common/atomic_file.h"
#include "coordinator/store/lock_file.h"
#include "coordinator/store/migrations.h"
#include "tests/coordinator/store/data_fixture.h"

namespace loupe::coordinator::store {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class DoctorTest : public DataTest {
 protected:
  std::vector<std::string> Damage() {
    const absl::StatusOr<upkeep::HealthReport> report = upkeep::Examine(data_);
    EXPECT_TRUE(report.ok()) << report.status();
    if (!report.ok()) return {report.status().ToString()};
    for (const upkeep::Finding& finding : report->findings) EXPECT_FALSE(finding.advice.empty()) << finding.problem;
    return report->Damage();
  }
  // With one statement that no coordinator would run, undone afterwards.
  std::vector<std::string> DamageAfter(const char* sql, const char* undo) {
    Execute(sql);
    const std::vector<std::string> damage = Damage();
    Execute(undo);
    EXPECT_THAT(Damage(), IsEmpty());
    return damage;
  }
};

TEST_F(DoctorTest, ASoundFolderIsCountedAndHasNoFindings) {
  const auto report = upkeep::Examine(data_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->findings, IsEmpty());
  EXPECT_EQ(report->schema_version, SchemaVersion());
  EXPECT_EQ(report->counts.sweeps, 1);
  EXPECT_EQ(report->counts.trials, 6);
  EXPECT_EQ(report->counts.results, 1);
  EXPECT_EQ(report->counts.artifacts, 1);
  EXPECT_EQ(report->counts.artifact_bytes, 5);
}

TEST_F(DoctorTest, ArtifactsThatChangedOrWentAreDamage) {
  const std::string path = *artifacts_->PathOf(Sha256Hex("hello"));
  ASSERT_TRUE(WriteFileAtomically(path, "hellO").ok());
  EXPECT_THAT(Damage(), ElementsAre(AllOf(StartsWith("artifact " + Sha256Hex("hello")), HasSubstr("has changed"))));
  std::filesystem::remove(path);
  EXPECT_THAT(Damage(), ElementsAre(HasSubstr("missing")));
  std::filesystem::create_symlink("/etc/hostname", path);
  EXPECT_THAT(Damage(), ElementsAre(HasSubstr("no plain file")));
  std::filesystem::remove_all(data_ + "/artifacts");
  EXPECT_THAT(Damage(), ElementsAre(HasSubstr("cannot read the folder")));
}

TEST_F(DoctorTest, RowsThatDoNotAgreeAreDamage) {
  EXPECT_THAT(DamageAfter("UPDATE trials SET state = 4 WHERE trial_index = 0",
                          "UPDATE trials SET state = 3 WHERE trial_index = 0"),
              ElementsAre("sweeps/first/trials/0: has a result, but has not succeeded with it"));
  EXPECT_THAT(DamageAfter("UPDATE trials SET state = 3 WHERE trial_index = 1",
                          "UPDATE trials SET state = 1 WHERE trial_index = 1"),
              ElementsAre("sweeps/first/trials/1: has succeeded, but has no result"));
  EXPECT_THAT(DamageAfter("UPDATE trials SET state = 2 WHERE trial_index = 1",
                          "UPDATE trials SET state = 1 WHERE trial_index = 1"),
              ElementsAre("sweeps/first/trials/1: runs without an attempt that runs, or the other way round"));
  EXPECT_THAT(DamageAfter("UPDATE sweeps SET state = 4", "UPDATE sweeps SET state = 1").size(), 5u)
      << "five trials of the ended sweep are queued";
  EXPECT_THAT(DamageAfter("UPDATE trials SET worker_losses = 1 WHERE trial_index = 0",
                          "UPDATE trials SET worker_losses = 0 WHERE trial_index = 0"),
              ElementsAre("sweeps/first/trials/0: does not count the attempts that are stored of it"));
  EXPECT_THAT(DamageAfter("UPDATE trials SET epoch = 1 WHERE trial_index = 1",
                          "UPDATE trials SET epoch = 0 WHERE trial_index = 1"),
              ElementsAre("sweeps/first/trials/1: does not count the attempts that are stored of it"));
  EXPECT_THAT(
      DamageAfter("PRAGMA foreign_keys=OFF; UPDATE scores SET trial_index = 3", "UPDATE scores SET trial_index = 0"),
      ElementsAre(HasSubstr("a row of table scores")));
  Execute("DELETE FROM trials WHERE trial_index = 5");
  EXPECT_THAT(Damage(), ElementsAre("sweeps/first: 6 trials planned, 5 stored"));
}

TEST_F(DoctorTest, OrphansAreANoteAndAreRemovedOnceTheCoordinatorIsStopped) {
  const std::string orphan = Put("nobody's");
  auto report = upkeep::Examine(data_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->Damage(), IsEmpty());
  ASSERT_EQ(report->findings.size(), 1u);
  EXPECT_EQ(report->orphans, 1);
  EXPECT_EQ(report->orphan_bytes, 8);
  {
    // flock is of the open file: a second one is refused in the same process too.
    const auto running = LockFile::Acquire(data_ + "/lock");
    EXPECT_EQ(upkeep::RemoveOrphans(data_).status().code(), absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_EQ(upkeep::RemoveOrphans(data_).value(), 1);
  EXPECT_FALSE(std::filesystem::exists(*artifacts_->PathOf(orphan)));
  EXPECT_THAT(upkeep::Examine(data_)->findings, IsEmpty()) << "what is referred to has stayed";
}

TEST_F(DoctorTest, AFolderWithoutADatabaseIsNamed) {
  EXPECT_EQ(upkeep::Examine(folder_ / "nothing").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(upkeep::Examine(folder_ / "nothing").status().message()), HasSubstr("no data folder"));
}

TEST_F(DoctorTest, ItEndsWhenItIsToldTo) {
  EXPECT_EQ(upkeep::Examine(data_, [](const WorkProgress&) { return false; }).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(ArtifactNameTest, OnlyPlainNamesPass) {
  for (const char* good : {"samples.png", "a", "adapter-1_b.safetensors"})
    EXPECT_TRUE(CheckArtifactName(good).ok()) << good;
  for (const std::string& bad : std::vector<std::string>{std::string(), std::string("."), std::string("../x"),
                                                         std::string("a/b"), std::string("a\\b"), std::string("a b"),
                                                         std::string("a\0b", 3), std::string(129, 'a')}) {
    EXPECT_EQ(CheckArtifactName(bad).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace loupe::coordinator::store
