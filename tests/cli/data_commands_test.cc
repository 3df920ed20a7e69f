// backup, restore and doctor as a user runs them, beside a running service.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "nlohmann/json.hpp"
#include "tests/cli/up_fixture.h"

namespace loupe::cli {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DataCommandsTest : public UpTest {
 protected:
  // One sweep with results, for all tests of the suite.
  static void SetUpTestSuite() {
    UpTest::SetUpTestSuite();
    ASSERT_EQ(Loupe({"submit", SweepFile("sweep"), "--watch"}).exit_code, 0);
  }
  // On another data folder than the running one's.
  static ProcessResult LoupeOn(const std::string& data, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--data", data});
    return RunProcess(folder_->path() + "/loupe", arguments, folder_->path());
  }
  static std::string Path(const std::string& name) { return folder_->path() + "/" + name; }
  // Every folder and file below `path`.
  static size_t Entries(const std::string& path) {
    const auto all = std::filesystem::recursive_directory_iterator(path);
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }
  static std::string SomeArtifact(const std::string& data) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(data + "/artifacts")) {
      if (entry.path().filename().string().size() == 64) return entry.path();
    }
    ADD_FAILURE() << "no artifact in " << data;
    return "";
  }
};

TEST_F(DataCommandsTest, ABackupOfTheRunningServiceIsRestoredAndServedWithTheSameReport) {
  const json backup = LoupeJson({"backup", "--to", Path("copy")});
  EXPECT_EQ(backup["backup"], Path("copy"));
  EXPECT_EQ(backup["trials"], 16);
  EXPECT_EQ(backup["results"], 16);
  EXPECT_GT(backup["artifacts"].get<int>(), 0);

  const ProcessResult restored = LoupeOn(Path("restored"), {"restore", "--from", Path("copy")});
  ASSERT_EQ(restored.exit_code, 0) << restored.err;
  EXPECT_THAT(restored.out, AllOf(HasSubstr("16 trials"), HasSubstr("loupe up --data")));
  EXPECT_THAT(restored.err, IsEmpty());
  ASSERT_EQ(LoupeOn(Path("restored"), {"up", "--detach", "--listen", "127.0.0.1:0", "--workers", "0"}).exit_code, 0);
  const ProcessResult report = LoupeOn(Path("restored"), {"report", "sweep", "--format", "csv"});
  EXPECT_EQ(report.exit_code, 0) << report.err;
  EXPECT_EQ(report.out, Loupe({"report", "sweep", "--format", "csv"}).out);
  EXPECT_EQ(LoupeOn(Path("restored"), {"down"}).exit_code, 0);
}

TEST_F(DataCommandsTest, BackupsMadeWhileTrialsLandAreAllSound) {
  ASSERT_EQ(Loupe({"submit", SweepFile("busy", std::string(kSweep) + "seed: 3\n")}).exit_code, 0);
  int64_t results = 0;
  for (int i = 0; i < 4; ++i) {
    const std::string copy = Path("busy-copy-" + std::to_string(i));
    const json backup = LoupeJson({"backup", "--to", copy});
    EXPECT_GE(backup["results"].get<int64_t>(), results) << "what was there stays there";
    results = backup["results"].get<int64_t>();
    const ProcessResult doctor = LoupeOn(copy, {"doctor"});
    EXPECT_EQ(doctor.exit_code, 0) << doctor.out;
    EXPECT_THAT(doctor.out, HasSubstr("no damage found"));
  }
  EXPECT_EQ(Loupe({"watch", "busy"}).exit_code, 0);
}

TEST_F(DataCommandsTest, NothingIsOverwrittenAndWrongFoldersAreNamed) {
  ASSERT_EQ(Loupe({"backup", "--to", Path("first")}).exit_code, 0);
  const ProcessResult again = Loupe({"backup", "--to", Path("first")});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, AllOf(HasSubstr("first"), HasSubstr("never overwrites")));
  const ProcessResult onto = Loupe({"restore", "--from", Path("first")});
  EXPECT_EQ(onto.exit_code, 1);
  EXPECT_THAT(onto.err, AllOf(HasSubstr(Data()), HasSubstr("not empty")));
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{"doctor"}, {"backup", "--to", Path("nowhere")}}) {
    const ProcessResult result = LoupeOn(Path("no-data"), wrong);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, AllOf(HasSubstr("no-data"), HasSubstr("no data folder")));
  }
  EXPECT_FALSE(std::filesystem::exists(Path("nowhere")));
  EXPECT_FALSE(std::filesystem::exists(Path("no-data")));
  EXPECT_EQ(Loupe({"backup"}).exit_code, 2);
  EXPECT_EQ(Loupe({"restore", "--form", Path("first")}).exit_code, 2);
}

TEST_F(DataCommandsTest, ADamagedBackupIsRefusedAndTheDoctorSaysWhatToDo) {
  ASSERT_EQ(Loupe({"backup", "--to", Path("damaged")}).exit_code, 0);
  const std::string artifact = SomeArtifact(Path("damaged"));
  std::ofstream(artifact, std::ios::app) << "more";
  const ProcessResult restore = LoupeOn(Path("never"), {"restore", "--from", Path("damaged")});
  EXPECT_EQ(restore.exit_code, 1);
  EXPECT_THAT(restore.err, AllOf(HasSubstr("is not restored"), HasSubstr("no longer has its digest")));
  EXPECT_FALSE(std::filesystem::exists(Path("never")));

  const ProcessResult text = LoupeOn(Path("damaged"), {"doctor"});
  EXPECT_EQ(text.exit_code, 1);
  EXPECT_THAT(text.out, AllOf(HasSubstr("damage: artifact "), HasSubstr("from a backup into its place"),
                              HasSubstr("1 damage found")));
  const ProcessResult doctor = LoupeOn(Path("damaged"), {"doctor", "--format", "json"});
  EXPECT_EQ(doctor.exit_code, 1);
  const json report = json::parse(doctor.out, nullptr, false);
  EXPECT_EQ(report["sound"], false);
  ASSERT_EQ(report["findings"].size(), 1u);
  EXPECT_EQ(report["findings"][0]["kind"], "damage");
  EXPECT_EQ(report["findings"][0]["subject"], "artifact " + std::filesystem::path(artifact).filename().string());

  std::ofstream(Path("damaged/coordinator.db"), std::ios::binary) << std::string(8192, 'x');
  const ProcessResult gone = LoupeOn(Path("damaged"), {"doctor"});
  EXPECT_EQ(gone.exit_code, 1);
  EXPECT_THAT(gone.err, HasSubstr("restore a backup"));
}

TEST_F(DataCommandsTest, OrphansOfADeletedSweepAreRemovedOnceNothingRuns) {
  const std::string data = Path("orphans");
  ASSERT_EQ(LoupeOn(data, {"up", "--detach", "--listen", "127.0.0.1:0", "--workers", "1"}).exit_code, 0);
  ASSERT_EQ(LoupeOn(data, {"submit", SweepFile("gone"), "--watch"}).exit_code, 0);
  ASSERT_EQ(LoupeOn(data, {"delete", "gone"}).exit_code, 0);
  const ProcessResult running = LoupeOn(data, {"doctor", "--remove-orphans"});
  EXPECT_EQ(running.exit_code, 1);
  EXPECT_THAT(running.err, HasSubstr("stop it first"));
  ASSERT_EQ(LoupeOn(data, {"down"}).exit_code, 0);
  const ProcessResult removed = LoupeOn(data, {"doctor", "--remove-orphans", "--format", "json"});
  ASSERT_EQ(removed.exit_code, 0) << removed.err;
  const json report = json::parse(removed.out, nullptr, false);
  EXPECT_EQ(report["sound"], true);
  EXPECT_GT(report["orphans"].get<int>(), 0);
  EXPECT_EQ(report["removed_orphans"], report["orphans"]);
  EXPECT_THAT(LoupeOn(data, {"doctor"}).out, HasSubstr("0 artifacts"));
}

TEST_F(DataCommandsTest, ADiskThatFillsUpLeavesNoHalfCopy) {
  const std::string disk = Path("disk");
  std::filesystem::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=100k") != 0) {
    GTEST_SKIP() << "this user may not mount a small file system";
  }
  const ProcessResult backup = Loupe({"backup", "--to", disk + "/copy"});
  EXPECT_EQ(backup.exit_code, 1);
  EXPECT_THAT(backup.err, AllOf(HasSubstr(disk), HasSubstr("pace left")));
  EXPECT_EQ(Entries(disk), 0u);
  ::umount2(disk.c_str(), MNT_DETACH);
}

// The coordinator makes snapshots by itself, and `loupe up` says when.
TEST_F(DataCommandsTest, UpTakesSnapshots) {
  const std::string data = Path("kept");
  ASSERT_EQ(LoupeOn(data, {"up", "--detach", "--listen", "127.0.0.1:0", "--workers", "0", "--backup-to",
                           Path("snapshots"), "--backup-every", "1s", "--backup-keep", "2"})
                .exit_code,
            0);
  std::set<std::string> seen;
  while (seen.size() < 4) {
    // The coordinator answers before it has made the folder.
    std::error_code not_yet;
    for (const auto& entry : std::filesystem::directory_iterator(Path("snapshots"), not_yet)) {
      if (entry.path().extension() != ".partial") seen.insert(entry.path().filename());
    }
    std::this_thread::yield();
  }
  ASSERT_EQ(LoupeOn(data, {"down"}).exit_code, 0);
  // At most one more than are kept, when it was stopped between a new one and the removal of an old one.
  size_t left = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Path("snapshots"))) {
    ++left;
    EXPECT_EQ(LoupeOn(entry.path(), {"doctor"}).exit_code, 0) << entry.path();
  }
  EXPECT_LE(left, 3u);
  const ProcessResult wrong = LoupeOn(data, {"up", "--backup-to", Path("snapshots"), "--backup-every", "often"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("--backup-every"));
}

}  // namespace
}  // namespace loupe::cli
