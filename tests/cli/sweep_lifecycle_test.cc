// The whole command against real processes: `loupe up` with the coordinator and two workers whose trials are
// play-acted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <thread>

#include "common/atomic_file.h"
#include "common/credentials.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "tests/cli/up_fixture.h"

namespace loupe::cli {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SweepLifecycleTest : public UpTest {};

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
  EXPECT_EQ(LoupeJson({"trials", "first-sweep", "--state", "succeeded"})["trials"], trials);
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
  const ProcessResult command = Loupe({"trial", "first-sweep", "3", "--as-command"});
  EXPECT_EQ(command.exit_code, 0) << command.err;
  EXPECT_THAT(command.out, AllOf(HasSubstr("loupe-worker trial --seed"), HasSubstr("--out first-sweep-3"),
                                 HasSubstr("\n  budget.steps="), HasSubstr("\n  train.learning_rate=")));
}

TEST_F(SweepLifecycleTest, LogsAreFollowedToATrialsEnd) {
  ASSERT_EQ(Loupe({"submit", SweepFile("logged-sweep")}).exit_code, 0);
  const ProcessResult followed = Loupe({"logs", "logged-sweep", "3", "-f"});
  EXPECT_EQ(followed.exit_code, 0) << followed.err;
  EXPECT_THAT(followed.out, AllOf(HasSubstr("Z  taken by workers/local-"), HasSubstr("Z  has a result after")));
  EXPECT_EQ(Loupe({"logs", "logged-sweep/3"}).out, followed.out);
  const ProcessResult last = Loupe({"logs", "sweeps/logged-sweep/trials/3", "--tail", "1", "--format", "json"});
  const json line = json::parse(last.out);
  EXPECT_EQ(line["trial"], "sweeps/logged-sweep/trials/3");
  EXPECT_EQ(line["attempt"], 1);
  EXPECT_EQ(line["level"], "info");
  EXPECT_THAT(line["text"].get<std::string>(), HasSubstr("has a result after"));
  EXPECT_THAT(Loupe({"logs", "logged-sweep", "3", "--after", line["sequence"].dump()}).out, IsEmpty());
  EXPECT_EQ(Loupe({"logs", "logged-sweep", "3", "--attempt", "9"}).exit_code, 1);
  EXPECT_EQ(Loupe({"logs", "logged-sweep"}).exit_code, 2);
}

TEST_F(SweepLifecycleTest, WorkersHaveTokensOfTheirOwn) {
  std::set<std::string> tokens = {ReadFile(Data() + "/token")->substr(0, 64)};
  for (const char* worker : {"local-1", "local-2"}) {
    const auto credentials = ReadCredentials(fmt::format("{}/work/credentials/{}.pem", Data(), worker));
    ASSERT_TRUE(credentials.ok()) << credentials.status();
    EXPECT_TRUE(tokens.insert(credentials->token).second) << "neither the administrator's nor another worker's";
  }
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
  // A trial that never ran has no log, and no result.
  const ProcessResult never = Loupe({"logs", "long-one", "79000", "-f"});
  EXPECT_EQ(never.exit_code, 4) << never.err;
  EXPECT_THAT(never.out, IsEmpty());
  EXPECT_EQ(Loupe({"delete", "long-one"}).exit_code, 0);
  // Durable when it is answered; eighty thousand rows go in steps, during which the sweep shows as DELETING.
  int gone = 0;
  for (int i = 0; i < 300 && gone == 0; ++i) {
    const ProcessResult status = Loupe({"status", "long-one"});
    gone = status.exit_code;
    if (gone == 0) {
      EXPECT_THAT(status.out, HasSubstr("DELETING"));
    }
  }
  EXPECT_EQ(gone, 1);
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

// 32 cells, each twice.
constexpr char kLargerSweep[] = R"(
base: larger
scorer: s
task: {images: i, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
method: {width: 8}
factors: {input: [SA_in, CA_in], output: [FFN_in, Trans_out], activation: all, scale: [1, 2]}
replicates: 2
budget: {steps: 5}
seed: 5
)";

using CellSet = std::set<std::string>;

// A chosen part of a sweep, what is added to it later, and the report over both.
class SubsetLifecycleTest : public SweepLifecycleTest {
 protected:
  static CellSet Cells(const json& list) {
    CellSet cells;
    for (const json& cell : list) cells.insert(cell.dump());
    return cells;
  }

  static json Trials(const std::string& sweep) { return LoupeJson({"trials", sweep})["trials"]; }

  static CellSet CellsOfTrials(const json& trials) {
    CellSet cells;
    for (const json& trial : trials) cells.insert(trial["cell"].dump());
    return cells;
  }

  // Cell and replicate -> scores.
  static std::map<std::string, json> Scores(const json& trials) {
    std::map<std::string, json> scores;
    for (const json& trial : trials) scores[trial["cell"].dump() + trial["replicate"].dump()] = trial["scores"];
    return scores;
  }
};

TEST_F(SubsetLifecycleTest, ChosenCellsRunAndMoreAreAddedUnderTheSameRandomNumbers) {
  const std::string whole = SweepFile("whole-one", kLargerSweep);
  const std::string part = folder_->path() + "/part.yaml";
  const json plan = LoupeJson({"plan", whole, "--trials", "32", "--write", part, "--list-cells"});
  EXPECT_EQ(plan["trials"], 32);
  EXPECT_EQ(plan["subset"]["candidate_cells"], 32);
  const CellSet chosen = Cells(plan["cell_list"]);
  ASSERT_EQ(chosen.size(), 16u);

  ASSERT_EQ(Loupe({"submit", part, "--id", "part-one", "--watch"}).exit_code, 0);
  const json part_trials = Trials("part-one");
  EXPECT_EQ(part_trials.size(), 32u);
  EXPECT_EQ(CellsOfTrials(part_trials), chosen);

  // What would be added, then added; asking again is answered with the same sweep.
  const json dry = LoupeJson({"augment", "part-one", "--trials", "16", "--dry-run"});
  EXPECT_EQ(dry["run_cells"], 16);
  EXPECT_EQ(Loupe({"status", "part-one-augmented"}).exit_code, 1);
  const ProcessResult augmented = Loupe({"augment", "part-one", "--trials", "16", "--watch"});
  ASSERT_EQ(augmented.exit_code, 0) << augmented.err;
  EXPECT_THAT(augmented.out, HasSubstr("loupe report part-one --with part-one-augmented"));
  const json added_trials = Trials("part-one-augmented");
  const CellSet added = CellsOfTrials(added_trials);
  EXPECT_EQ(added, Cells(dry["cell_list"]));
  EXPECT_EQ(added.size(), 8u);
  for (const std::string& cell : added) EXPECT_EQ(chosen.count(cell), 0u) << cell;
  EXPECT_THAT(Loupe({"augment", "part-one", "--trials", "16"}).err, HasSubstr("--exist-ok"));
  EXPECT_EQ(Loupe({"augment", "part-one", "--trials", "16", "--exist-ok"}).exit_code, 0);

  // Every trial has the score that it has in a sweep of all cells: seeds and replicates are the same.
  ASSERT_EQ(Loupe({"submit", whole, "--watch"}).exit_code, 0);
  const std::map<std::string, json> expected = Scores(Trials("whole-one"));
  for (const json* trials : {&part_trials, &added_trials}) {
    for (const auto& [trial, scores] : Scores(*trials)) EXPECT_EQ(scores, expected.at(trial)) << trial;
  }

  const json report = LoupeJson({"report", "part-one", "--with", "part-one-augmented"});
  EXPECT_EQ(report["sample"]["used"], 48);
  EXPECT_EQ(report["cells"].size(), 24u);
  // 48 trials − mean − input 1 − output 1 − activation 3 − scale 1 − replicate 1.
  EXPECT_EQ(report["residual"]["df"], 40);
  EXPECT_THAT(report["notes"].dump(), HasSubstr("sweeps/part-one-augmented"));

  // The whole sweep leaves nothing to add, and agrees with its own part.
  const ProcessResult nothing = Loupe({"augment", "whole-one", "--trials", "2"});
  EXPECT_EQ(nothing.exit_code, 1);
  EXPECT_THAT(nothing.err, HasSubstr("every legal cell"));
  const json compared = LoupeJson({"report", "whole-one", "--compare", "part-one"});
  EXPECT_EQ(compared["agreement"]["spearman"], 1.0);
  EXPECT_EQ(compared["agreement"]["cells"].size(), 16u);
  const ProcessResult twice = Loupe({"report", "whole-one", "--with", "part-one"});
  EXPECT_EQ(twice.exit_code, 2);
  EXPECT_THAT(twice.err, AllOf(HasSubstr("sweeps/whole-one"), HasSubstr("that the first has too")));

  const json contrasts =
      LoupeJson({"report", "whole-one", "--baseline", "input=SA_in,output=FFN_in,activation=relu,scale=1"});
  EXPECT_EQ(contrasts["details"]["baseline"]["contrasts"].size(), 31u);

  // The estimate rests on what the trials of this base took, and on the workers that are up.
  const json estimate = LoupeJson({"plan", whole})["estimate"];
  EXPECT_THAT(estimate["basis"].get<std::string>(), HasSubstr("112 trials of 3 sweeps"));
  EXPECT_EQ(estimate["workers"], 2);
  // Both say that they have units for bf16.
  const auto notes = [&](const std::string& file) { return LoupeJson({"plan", file})["notes"].dump(); };
  EXPECT_THAT(notes(whole), HasSubstr("2 of the 2 workers that are up have units for products in bf16, and the sweep "
                                      "computes in float32: train.precision and sample.precision: bf16"));
  const std::string half = "train: {precision: bf16}\nsample: {precision: bf16}\n";
  EXPECT_THAT(notes(SweepFile("half-one", kSweep + half)), ::testing::Not(HasSubstr("bf16")));
  // The fake worker takes 0.05 s; scheduling on a busy machine adds to it.
  EXPECT_GT(estimate["seconds_per_trial"].get<double>(), 0.04);
  EXPECT_LT(estimate["seconds_per_trial"].get<double>(), 20);
}

TEST_F(SubsetLifecycleTest, RunningSweepIsNotAugmented) {
  std::string text = kLargerSweep;
  text.replace(text.find("replicates: 2"), 13, "replicates: 999");
  ASSERT_EQ(Loupe({"submit", SweepFile("endless", text)}).exit_code, 0);
  const ProcessResult result = Loupe({"augment", "endless", "--trials", "999"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, AllOf(::testing::AnyOf(HasSubstr("endless is ACTIVE"), HasSubstr("endless is CREATING")),
                                HasSubstr("loupe stop")));
  EXPECT_EQ(Loupe({"cancel", "endless"}).exit_code, 0);
}

TEST_F(SweepLifecycleTest, RefusalsOfTheCoordinatorNameTheLine) {
  const ProcessResult result = Loupe({"submit", SweepFile("bad-one", std::string(kSweep) + "sample: {steps: 0}\n")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("bad-one.yaml:10:17: sample.steps: '0'"));
  EXPECT_THAT(result.out, IsEmpty());
}

}  // namespace
}  // namespace loupe::cli
