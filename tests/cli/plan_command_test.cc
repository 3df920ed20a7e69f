// `loupe plan` and `loupe anova` as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/cli/process.h"

namespace loupe::cli {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ProcessResult Loupe(const std::vector<std::string>& arguments, const std::string& input = "") {
  return RunProcess(LOUPE_BINARY, arguments, "", {}, input);
}

json PlanOf(const std::string& file) {
  const ProcessResult result = Loupe({"plan", file, "--format", "json", "--no-history"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return json::parse(result.out, nullptr, false);
}

const json* Term(const json& plan, const std::string& name) {
  for (const json& term : plan["terms"]) {
    if (term["term"] == name) return &term;
  }
  return nullptr;
}

TEST(ShippedSweepsTest, QuickstartIsTwentyFourTrialsOfABalancedDesign) {
  const json plan = PlanOf("configs/sweeps/quickstart.yaml");
  EXPECT_EQ(plan["trials"], 24);
  for (const json& term : plan["terms"]) EXPECT_EQ(term["aliased_df"], 0) << term;
  // 24 trials − mean − input 2 − output 1 − activation 1 − replicate 1.
  EXPECT_EQ(plan["residual_df"], 18);
  EXPECT_GT(plan["estimate"]["seconds_per_trial"], 0);
}

TEST(ShippedSweepsTest, FullDesignShowsWhatThePairsConfound) {
  const json plan = PlanOf("configs/sweeps/full-320.yaml");
  EXPECT_EQ(plan["cells"], 320);
  // Three kinds of block that share no position: two of the degrees of freedom between them belong to neither factor.
  // rank[1, input] = 10, rank[1, output] = 7, rank[1, input, output] = 10 + 7 − 3 = 14.
  EXPECT_EQ((*Term(plan, "input"))["df"], 14 - 7);
  EXPECT_EQ((*Term(plan, "output"))["df"], 14 - 10);
  EXPECT_EQ((*Term(plan, "input"))["aliased_df"], 2);
  EXPECT_THAT((*Term(plan, "input"))["note"].get<std::string>(), HasSubstr("aliased with output"));
  EXPECT_EQ((*Term(plan, "scale"))["aliased_df"], 0);
}

TEST(ShippedSweepsTest, EveryFilePlansWithoutItsBaseBeingHere) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("configs/sweeps")) {
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    const ProcessResult result = Loupe({"plan", entry.path().string(), "--no-history"});
    EXPECT_EQ(result.exit_code, 0) << entry.path() << result.err;
  }
  EXPECT_GE(files, 3);
  const json paper = PlanOf("configs/sweeps/paper-dreambooth.yaml");
  EXPECT_EQ(paper["cells"], 320);
  EXPECT_TRUE(paper["estimate"].is_null());
}

TEST(PlanCommandTest, InteractionsCanBeLookedAt) {
  const ProcessResult result =
      Loupe({"plan", "configs/sweeps/full-320.yaml", "--terms", "input*output", "--format", "json", "--no-history"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json plan = json::parse(result.out);
  // 20 pairs − 14 for the main effects.
  EXPECT_EQ((*Term(plan, "input:output"))["df"], 6);
  EXPECT_EQ((*Term(plan, "input:output"))["nominal_df"], 54);
}

TEST(PlanCommandTest, EstimateScalesWithTheSpeedAndTheWorkersGiven) {
  const auto seconds = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"plan", "configs/sweeps/quickstart.yaml", "--format", "json", "--no-history"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return json::parse(Loupe(arguments).out)["estimate"]["seconds"].get<double>();
  };
  EXPECT_NEAR(seconds({"--seconds-per-trial", "10", "--workers", "5"}), 50, 1e-9);  // 24 trials in 5 rounds
  EXPECT_NEAR(seconds({"--gflops", "50"}) / seconds({"--gflops", "100"}), 2, 1e-9);
}

TEST(PlanCommandTest, WrittenSubsetPlansToTheSameCells) {
  const TemporaryFolder folder;
  const std::string part = folder.path() + "/part.yaml";
  const ProcessResult chosen = Loupe({"plan", "configs/sweeps/full-320.yaml", "--trials", "288", "--write", part,
                                      "--list-cells", "--format", "json", "--no-history"});
  ASSERT_EQ(chosen.exit_code, 0) << chosen.err;
  const json plan = json::parse(chosen.out);
  EXPECT_EQ(plan["cells"], 96);
  EXPECT_EQ(plan["subset"]["method"], "D-optimal");
  EXPECT_GT(plan["subset"]["d_efficiency"], 0.9);
  EXPECT_FALSE(plan["subset"]["aliases"].empty());
  // Main effects of 14 position parameters, 3 activations, 3 scales: all estimable as in the full design.
  EXPECT_EQ((*Term(plan, "input"))["df"], 7);
  EXPECT_EQ((*Term(plan, "output"))["df"], 4);
  const ProcessResult again = Loupe({"plan", part, "--list-cells", "--format", "json", "--no-history"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(json::parse(again.out)["cell_list"], plan["cell_list"]);
}

TEST(PlanCommandTest, TextSaysWhatTheTestsWillSeeAndWhereTheOrderComesFrom) {
  const ProcessResult result =
      Loupe({"plan", "configs/sweeps/full-320.yaml", "--trials", "240", "--sigma", "0.01", "--no-history"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("min. f"), HasSubstr("Cohen's f"), HasSubstr("with the given σ = 0.01"),
                                HasSubstr("Chosen cells: 80 of 320 (orthogonal array)"), HasSubstr("shows up in"),
                                HasSubstr("Run order: replicate by replicate"), HasSubstr("the seed (7)")));
}

// Res_in and Res_out meet in one output only: 2 × 48 of 960 trials tell them apart. FFN_out and Trans_out are as hard.
TEST(PlanCommandTest, HardestPairOfLevelsIsNamed) {
  const ProcessResult result = Loupe({"plan", "configs/sweeps/full-320.yaml", "--format", "json", "--no-history"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json input = *Term(json::parse(result.out), "input");
  EXPECT_NEAR(input["detectable_difference_sd"].get<double>(), 0.776, 0.001);
  EXPECT_THAT(input["hardest_pair"].dump(),
              ::testing::AnyOf("[\"Res_in\",\"Res_out\"]", "[\"FFN_out\",\"Trans_out\"]"));
  EXPECT_EQ(input["pairs"], 45);
  EXPECT_EQ(input["not_estimable_pairs"].size(), 23u);
}

TEST(PlanCommandTest, DetectableEffectShrinksWithReplicatesAndPowerGrows) {
  const auto term = [](const char* replicates) {
    const TemporaryFolder folder;
    const std::string file = folder.Write(
        "s.yaml",
        std::string("name: some-sweep\nbase: b\nscorer: s\ntask: {images: i, instance_prompt: p, class_prompt: c}\n"
                    "method: {width: 8, input: SA_in, output: FFN_in}\nbudget: {steps: 5}\n"
                    "factors: {activation: all, scale: [1, 2]}\nreplicates: ") +
            replicates + "\n");
    const ProcessResult result = Loupe({"plan", file, "--format", "json", "--no-history"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return *Term(json::parse(result.out), "activation");
  };
  const json few = term("2"), many = term("8");
  EXPECT_GT(few["detectable_f"].get<double>(), many["detectable_f"].get<double>());
  EXPECT_LT(few["power"].get<double>(), many["power"].get<double>());
  // As many replicates as are said to be needed are enough, and one fewer is not.
  const int needed = few["replicates_needed"].get<int>();
  EXPECT_GE(term(std::to_string(needed).c_str())["power"].get<double>(), 0.8);
  EXPECT_LT(term(std::to_string(needed - 1).c_str())["power"].get<double>(), 0.8);
}

TEST(PlanCommandTest, CsvListsEveryCellWithItsPlaceInTheRunOrder) {
  const ProcessResult result = Loupe({"plan", "configs/sweeps/quickstart.yaml", "--format", "csv", "--no-history"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("cell,input,output,activation,order_in_replicate_0,order_in_replicate_1\n"));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 13);
}

TEST(PlanCommandTest, WriteWithoutTrialsIsRefused) {
  const TemporaryFolder folder;
  const ProcessResult result =
      Loupe({"plan", "configs/sweeps/quickstart.yaml", "--write", folder.path() + "/x.yaml", "--no-history"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("needs --trials"));
}

TEST(PlanCommandTest, MisspeltKeyNamesLineColumnAndWhatWasMeantAndExitsTwo) {
  const TemporaryFolder folder;
  const std::string file = folder.Write("s.yaml", "name: some-sweep\nbase: b\nscorer: s\ntask: {imges: i}\n");
  const ProcessResult result = Loupe({"plan", file});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr(file + ":4:8: 'imges' is not a key of 'task'; did you mean 'images'?"));
  EXPECT_THAT(result.out, IsEmpty());
}

TEST(PlanCommandTest, StandardInputIsRead) {
  const ProcessResult result = Loupe({"plan", "-"}, "nme: x\n");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("standard input:1:1: 'nme'"));
}

TEST(PlanCommandTest, MissingFileIsNamed) {
  const ProcessResult result = Loupe({"plan", "/does/not/exist.yaml"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("'/does/not/exist.yaml': No such file"));
}

TEST(CommandLineTest, WrongWordsGetASuggestionAndExitTwo) {
  ProcessResult result = Loupe({"pln", "x"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("did you mean 'plan'?"));
  result = Loupe({"plan", "x", "--fromat", "json"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("did you mean '--format'?"));
  EXPECT_EQ(Loupe({}).exit_code, 2);
}

TEST(CommandLineTest, EveryCommandExplainsItself) {
  const ProcessResult help = Loupe({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* name :
       {"up",      "down",    "plan",      "submit",   "sweeps", "status", "watch",  "workers", "drain",
        "undrain", "pause",   "resume",    "stop",     "cancel", "retry",  "delete", "report",  "trials",
        "trial",   "metrics", "artifacts", "download", "anova",  "keys",   "augment"}) {
    EXPECT_THAT(help.out, HasSubstr(name));
    const ProcessResult one = Loupe({name, "--help"});
    EXPECT_EQ(one.exit_code, 0) << name;
    EXPECT_THAT(one.out, HasSubstr("Options")) << name;
  }
}

TEST(CommandLineTest, FullDiskBehindStandardOutputIsAFailure) {
  const ProcessResult result =
      RunProcess("/bin/sh", {"-c", std::string(LOUPE_BINARY) + " plan configs/sweeps/quickstart.yaml > /dev/full"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot write to standard output"));
}

TEST(AnovaCommandTest, TableInJsonHasTheDocumentedShape) {
  const TemporaryFolder folder;
  // y = 1·[a2] + 2·[b2] exactly, plus ±0.5 within each cell: SS(a) = 8/4·1² = 2, SS(b) = 8, residual 8·0.25 = 2 on 5
  // df.
  const std::string file =
      folder.Write("d.csv", "a,b,y\n1,1,-0.5\n1,1,0.5\n2,1,0.5\n2,1,1.5\n1,2,1.5\n1,2,2.5\n2,2,2.5\n2,2,3.5\n");
  const ProcessResult result = Loupe({"anova", file, "--response", "y", "--factors", "a,b", "--format", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json table = json::parse(result.out);
  ASSERT_EQ(table["terms"].size(), 2u);
  EXPECT_EQ(table["terms"][0]["term"], "a");
  EXPECT_NEAR(table["terms"][0]["sum_sq"], 2, 1e-12);
  EXPECT_NEAR(table["terms"][1]["sum_sq"], 8, 1e-12);
  EXPECT_NEAR(table["residual"]["sum_sq"], 2, 1e-12);
  EXPECT_EQ(table["residual"]["df"], 5);
  EXPECT_NEAR(table["terms"][0]["f"], 2 / (2.0 / 5), 1e-12);
  for (const char* key : {"df", "mean_sq", "p"}) EXPECT_TRUE(table["terms"][0].contains(key));
}

TEST(AnovaCommandTest, OutputFileIsWrittenWholeOrNotAtAll) {
  const TemporaryFolder folder;
  const std::string file = folder.Write("d.csv", "a,y\n1,1\n1,2\n2,3\n2,5\n");
  const std::string out = folder.path() + "/out.csv";
  const ProcessResult result = Loupe({"anova", file, "-y", "y", "-f", "a", "--format", "csv", "-o", out});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, IsEmpty());
  EXPECT_TRUE(std::filesystem::exists(out));
  EXPECT_EQ(Loupe({"anova", file, "-y", "y", "-f", "a", "-o", folder.path() + "/no/such/folder/out"}).exit_code, 1);
}

// The columns are those of emmeans' data frames; a = 2 less a = 1 is 1 with variance 2·0.4/4.
TEST(AnovaCommandTest, TableChoosesWhatCsvPrints) {
  const TemporaryFolder folder;
  const std::string file =
      folder.Write("d.csv", "a,b,y\n1,1,-0.5\n1,1,0.5\n2,1,0.5\n2,1,1.5\n1,2,1.5\n1,2,2.5\n2,2,2.5\n2,2,3.5\n");
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"anova", file, "-y", "y", "-f", "a,b"};
    words.insert(words.end(), more.begin(), more.end());
    return Loupe(words);
  };
  const ProcessResult pairs = run({"--table", "pairs"});
  EXPECT_EQ(pairs.exit_code, 0) << pairs.err;
  EXPECT_THAT(pairs.out, AllOf(HasSubstr("factor,within,first,second,difference,std_error,df,t,p,"),
                               HasSubstr("\na,,1,2,-1,0.447213595499")));
  EXPECT_THAT(run({"--table", "means"}).out, HasSubstr("\nb,,2,4,2.5,"));
  EXPECT_THAT(run({"--table", "contrasts", "--contrast", "[a=2] - [a=1]"}).out, HasSubstr("\n[a=2] - [a=1],1,0.44"));
  const ProcessResult wrong = run({"--table", "means", "--format", "json"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("csv"));
  EXPECT_EQ(run({"--table", "medians"}).exit_code, 2);
}

TEST(AnovaCommandTest, UnknownColumnIsNamedAndExitsTwo) {
  const TemporaryFolder folder;
  const std::string file = folder.Write("d.csv", "alpha,y\n1,1\n2,2\n");
  const ProcessResult result = Loupe({"anova", file, "--response", "y", "--factors", "alhpa"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("alhpa"), HasSubstr("alpha")));
}

TEST(AnovaCommandTest, BaselineContrastsNameTheCellAndItsErrorsSayWhatToWrite) {
  const TemporaryFolder folder;
  const std::string file =
      folder.Write("d.csv", "a,b,y\n1,1,-0.5\n1,1,0.5\n2,1,0.5\n2,1,1.5\n1,2,1.5\n1,2,2.5\n2,2,2.5\n2,2,3.5\n");
  const auto run = [&](const std::string& baseline) {
    return Loupe({"anova", file, "-y", "y", "-f", "a,b", "--baseline", baseline, "--format", "json"});
  };
  const ProcessResult result = run("a=1,b=1");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json baseline = json::parse(result.out)["details"]["baseline"];
  EXPECT_EQ(baseline["contrasts"][0]["cell"], "2, 2");
  EXPECT_NEAR(baseline["contrasts"][0]["difference"], 3, 1e-12);
  EXPECT_THAT(run("a=1").err, HasSubstr("no level of 'b'"));
  EXPECT_THAT(run("a").err, HasSubstr("factor=level"));
  EXPECT_EQ(run("a=1").exit_code, 2);
}

TEST(KeysCommandTest, PrintsEveryKey) {
  const ProcessResult result = Loupe({"keys"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("| `replicates` |"), HasSubstr("| `train.learning_rate` |")));
}

TEST(UnreachableTest, CommandsSayWhichAddressWasTriedAndExitThree) {
  // Port 1 of the loopback: nothing listens there.
  for (const char* command : {"sweeps", "workers"}) {
    const ProcessResult result = Loupe({command, "--address", "127.0.0.1:1"});
    EXPECT_EQ(result.exit_code, 3) << command;
    EXPECT_THAT(result.err, AllOf(HasSubstr("127.0.0.1:1"), HasSubstr("loupe up"))) << command;
    EXPECT_THAT(result.err, Not(HasSubstr("terminate called")));
  }
  const ProcessResult by_variable =
      RunProcess(LOUPE_BINARY, {"status", "some-sweep"}, "", {{"LOUPE_ADDRESS", "127.0.0.1:2"}});
  EXPECT_EQ(by_variable.exit_code, 3);
  EXPECT_THAT(by_variable.err, HasSubstr("127.0.0.1:2"));
}

// Two prompts that differ only in what the text tower never sees give the same pictures.
TEST(PromptNotesTest, APlanSaysWhatOfAPromptIsCutOff) {
  const auto notes_of = [](const std::string& base) {
    std::string words = "a photo of sks cat";
    for (int i = 0; i < 30; ++i) words += " two";
    const ProcessResult result = Loupe(
        {"plan", "-", "--no-history", "--format", "json"},
        "name: long\nbase: " + base +
            "\nscorer: configs/scorers/emoji-clip\ntask:\n  images: configs\n  instance_prompt: " + words +
            " red hat\n  class_prompt: a photo of cat\nmethod:\n  input: CA_out\n  output: FFN_in\n  width: 4\nbudget:\n  steps: 10\nfactors:\n  scale: [1, 2]\n");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out, nullptr, false)["notes"].dump();
  };
  EXPECT_THAT(notes_of("configs/bases/emoji-sd"),
              AllOf(HasSubstr("task.instance_prompt: 'a photo of sks cat two"), HasSubstr("red hat' is cut off"),
                    Not(HasSubstr("class_prompt"))));
  EXPECT_THAT(notes_of("/no/such/base"),
              HasSubstr("/no/such/base is not on this machine, so whether its text tower takes the prompts whole"));
}

}  // namespace
}  // namespace loupe::cli
