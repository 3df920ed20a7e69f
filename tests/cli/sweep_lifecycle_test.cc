// The whole command against real processes: `loupe up` with the coordinator and two workers whose trials are
// play-acted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <thread>

#include "nlohmann/json.hpp"
#include "tests/cli/process.h"

namespace loupe::cli {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kSweep[] = R"(
base: b
scorer: s
task: {images: i, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
method: {width: 8}
factors: {input: [SA_in, CA_in], output: [FFN_in, Trans_out], activation: [relu, silu]}
replicates: 2
budget: {steps: 5}
)";

// One `loupe up` for all tests of the suite. `loupe` finds its programs beside itself, so a folder is laid out with a
// copy of it, the coordinator, and a stand-in for the worker's command line.
class SweepLifecycleTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    std::filesystem::copy_file(LOUPE_BINARY, folder_->path() + "/loupe");
    std::filesystem::create_symlink(LOUPE_COORDINATOR, folder_->path() + "/loupe-coordinator");
    const std::string worker = folder_->Write(
        "loupe-worker",
        std::string("#!/bin/bash\nshift\n"
                    "while [ $# -gt 0 ]; do case $1 in --coordinator) a=$2;; --token-file) t=$2;;"
                    " --data) d=$2;; --id) n=$2;; esac; shift 2; done\n"
                    "exec " LOUPE_FAKE_WORKER " --address $a --token-file $t --data $d/$n --name $n --seconds 0.05\n"));
    std::filesystem::permissions(worker, std::filesystem::perms::owner_all);
    const ProcessResult up = RunProcess(
        folder_->path() + "/loupe", {"up", "--detach", "--data", Data(), "--listen", "127.0.0.1:0", "--workers", "2"});
    ASSERT_EQ(up.exit_code, 0) << up.err;
    EXPECT_THAT(up.out, HasSubstr("2 workers"));
  }

  static void TearDownTestSuite() {
    EXPECT_EQ(RunProcess(folder_->path() + "/loupe", {"down", "--data", Data()}).exit_code, 0);
    // Nothing is left running, and nobody is told of an address that nobody listens on.
    EXPECT_FALSE(std::filesystem::exists(Data() + "/address"));
    EXPECT_EQ(RunProcess(folder_->path() + "/loupe", {"down", "--data", Data()}).exit_code, 1);
    folder_.reset();
  }

  static std::string Data() { return folder_->path() + "/data"; }

  static ProcessResult Loupe(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--data", Data()});
    return RunProcess(folder_->path() + "/loupe", arguments, folder_->path());
  }

  static json LoupeJson(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--format", "json"});
    const ProcessResult result = Loupe(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out, nullptr, false);
  }

  static std::string SweepFile(const std::string& name, const std::string& text = kSweep) {
    return folder_->Write(name + ".yaml", "name: " + name + "\n" + text);
  }

  static std::unique_ptr<TemporaryFolder> folder_;
};

std::unique_ptr<TemporaryFolder> SweepLifecycleTest::folder_;

TEST_F(SweepLifecycleTest, SweepRunsToItsEndAndItsReportHoldsAnFTable) {
  const ProcessResult submitted = Loupe({"submit", SweepFile("first-sweep"), "--watch"});
  ASSERT_EQ(submitted.exit_code, 0) << submitted.err;
  EXPECT_THAT(submitted.out,
              AllOf(HasSubstr("first-sweep: 16 trials"), HasSubstr("16 of 16 done (100 %)"), HasSubstr("COMPLETED")));
  // Plain lines, since this is no terminal.
  EXPECT_EQ(submitted.out.find('\x1b'), std::string::npos);

  const json status = LoupeJson({"status", "first-sweep"});
  EXPECT_EQ(status["state"], "COMPLETED");
  EXPECT_EQ(status["counts"]["succeeded"], 16);
  EXPECT_EQ(status["cells"], 8);

  const json trials = LoupeJson({"trials", "first-sweep"})["trials"];
  ASSERT_EQ(trials.size(), 16u);
  std::set<std::string> cells;
  for (const json& trial : trials) cells.insert(trial["cell"].dump() + trial["replicate"].dump());
  EXPECT_EQ(cells.size(), 16u);

  const json report = LoupeJson({"report", "first-sweep"});
  std::set<std::string> terms;
  for (const json& term : report["terms"]) terms.insert(term["term"].get<std::string>());
  for (const char* term : {"input", "output", "activation"}) EXPECT_EQ(terms.count(term), 1u) << term;
  EXPECT_EQ(report["residual"]["df"], 16 - 1 - 3 - 1);

  const std::string page = folder_->path() + "/report.html";
  EXPECT_EQ(Loupe({"report", "first-sweep", "--format", "html", "-o", page}).exit_code, 0);
  EXPECT_GT(std::filesystem::file_size(page), 1000u);

  const json artifacts = LoupeJson({"artifacts", "first-sweep", "3"})["artifacts"];
  ASSERT_FALSE(artifacts.empty());
  const std::string copy = folder_->path() + "/copy";
  EXPECT_EQ(Loupe({"download", "first-sweep", "3", artifacts[0]["name"], "-o", copy}).exit_code, 0);
  EXPECT_EQ(std::filesystem::file_size(copy), artifacts[0]["size_bytes"].get<uint64_t>());
}

TEST_F(SweepLifecycleTest, SubmittingAgainNeedsExistOkAndTheSameDesign) {
  const std::string file = SweepFile("twice");
  ASSERT_EQ(Loupe({"submit", file}).exit_code, 0);
  const ProcessResult again = Loupe({"submit", file});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr("--exist-ok"));
  EXPECT_EQ(Loupe({"submit", file, "--exist-ok"}).exit_code, 0);
  const ProcessResult other = Loupe({"submit", SweepFile("twice", std::string(kSweep) + "seed: 9\n"), "--exist-ok"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.err, HasSubstr("from another file"));
  EXPECT_EQ(Loupe({"watch", "twice"}).exit_code, 0);
}

TEST_F(SweepLifecycleTest, DryRunSubmitsNothing) {
  const ProcessResult result = Loupe({"submit", SweepFile("dry-one"), "--dry-run"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("16 trials would be run"));
  const ProcessResult status = Loupe({"status", "dry-one"});
  EXPECT_EQ(status.exit_code, 1);
  EXPECT_THAT(status.err, HasSubstr("dry-one"));
}

TEST_F(SweepLifecycleTest, CancelledSweepIsTerminalAndWatchExitsFour) {
  // Far more trials than can end in the time between two commands.
  ASSERT_EQ(
      Loupe({"submit", SweepFile("long-one", std::string(kSweep).replace(std::string(kSweep).find("replicates: 2"), 13,
                                                                         "replicates: 9999"))})
          .exit_code,
      0);
  EXPECT_EQ(LoupeJson({"pause", "long-one"})["state"], "PAUSED");
  EXPECT_EQ(LoupeJson({"resume", "long-one"})["state"], "ACTIVE");
  EXPECT_EQ(Loupe({"cancel", "long-one"}).exit_code, 0);
  EXPECT_EQ(Loupe({"watch", "long-one"}).exit_code, 4);
  EXPECT_EQ(LoupeJson({"status", "long-one"})["state"], "CANCELLED");
  EXPECT_EQ(Loupe({"delete", "long-one"}).exit_code, 0);
  EXPECT_EQ(Loupe({"status", "long-one"}).exit_code, 1);
}

TEST_F(SweepLifecycleTest, WorkersAreListedWithWhatTheyAre) {
  const json workers = LoupeJson({"workers"})["workers"];
  ASSERT_EQ(workers.size(), 2u);
  EXPECT_EQ(workers[0]["name"], "workers/local-1");
  EXPECT_EQ(LoupeJson({"drain", "local-2"})["state"], "DRAINING");
  EXPECT_EQ(LoupeJson({"undrain", "local-2"})["state"], "IDLE");
}

TEST_F(SweepLifecycleTest, KilledWorkerIsStartedAgain) {
  const auto process_of = [](const json& workers) { return workers["workers"][0]["process_id"].get<int>(); };
  const int before = process_of(LoupeJson({"workers"}));
  ASSERT_EQ(kill(before, SIGKILL), 0);
  int now = before;
  for (int i = 0; i < 300 && now == before; ++i) {
    now = process_of(LoupeJson({"workers"}));
    std::this_thread::yield();
  }
  EXPECT_NE(now, before);
}

TEST_F(SweepLifecycleTest, SecondUpInTheSameFolderAndAPortInUseAreSentences) {
  const ProcessResult second = RunProcess(folder_->path() + "/loupe", {"up", "--data", Data(), "--workers", "0"});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err, AllOf(HasSubstr("runs in"), HasSubstr("loupe down")));
  std::ifstream file(Data() + "/address");
  std::string address;
  file >> address;
  const ProcessResult port = RunProcess(
      folder_->path() + "/loupe", {"up", "--data", folder_->path() + "/other", "--workers", "0", "--listen", address});
  EXPECT_EQ(port.exit_code, 1);
  EXPECT_THAT(port.err, AllOf(HasSubstr(address), HasSubstr("in use")));
}

TEST_F(SweepLifecycleTest, RefusalsOfTheCoordinatorNameTheLine) {
  const ProcessResult result = Loupe({"submit", SweepFile("bad-one", std::string(kSweep) + "sample: {steps: 0}\n")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("bad-one.yaml:10:17: sample.steps: '0'"));
  EXPECT_THAT(result.out, IsEmpty());
}

}  // namespace
}  // namespace loupe::cli
