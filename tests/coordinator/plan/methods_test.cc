// Sweeps over methods, and factors whose levels set several settings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error_details.h"
#include "coordinator/plan/plan.h"
#include "coordinator/plan/plan_summary.h"
#include "coordinator/plan/sweep_file.h"

namespace loupe::coordinator::plan {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr char kMethodsYaml[] = R"(name: methods
base: /b
scorer: /s
task: {images: /i, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
methods:
  - {kind: adapter, width: 8, positions: [[SA_in, FFN_in], "CA_out -> FFN_in"], activation: [relu, silu]}
  - {kind: lora, rank: [4, 16], targets: [attention, "to_q,to_v"]}
  - {kind: bitfit, label: biases}
factors: {train.learning_rate: [0.001, 0.0001]}
replicates: 2
budget: {steps: 5}
)";

SweepSpec SpecOf(const std::string& text) {
  absl::StatusOr<SweepFile> file = ParseSweepFile(text, "f");
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? file->spec : SweepSpec();
}

// What is refused about a file, with its place.
std::string RefusalOf(const std::string& text) {
  const absl::StatusOr<SweepFile> file = ParseSweepFile(text, "f");
  if (!file.ok()) return std::string(file.status().message());
  const absl::Status status = Plan::Create(file->spec).status();
  EXPECT_FALSE(status.ok()) << text;
  return std::string(LocateInFile(status, *file).message());
}

std::string WithPart(std::string text, std::string_view part, std::string_view by) {
  const size_t at = text.find(part);
  EXPECT_NE(at, std::string::npos) << part;
  return text.replace(at, part.size(), by);
}

std::string WithMethods(const std::string& entries) {
  std::string text = kMethodsYaml;
  const size_t begin = text.find("  - {kind: adapter"), end = text.find("factors:");
  return text.replace(begin, end - begin, entries);
}

TEST(MethodsTest, PlanIsAUnionOfDesigns) {
  const absl::StatusOr<Plan> plan = Plan::Create(SpecOf(kMethodsYaml));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cell_count(), (2 * 2 + 2 * 2 + 1) * 2);
  EXPECT_EQ(plan->trial_count(), 36);
  std::vector<std::string> names, within;
  for (size_t f = 0; f < plan->factors().size(); ++f) {
    names.push_back(plan->FactorName(f));
    within.push_back(plan->factors()[f].within);
  }
  EXPECT_THAT(names, ElementsAre("method", "input", "output", "activation", "rank", "targets", "learning_rate"));
  EXPECT_THAT(within, ElementsAre("", "adapter", "adapter", "adapter", "lora", "lora", ""));
  EXPECT_THAT(plan->factors()[0].levels, ElementsAre("adapter", "lora", "biases"));
  // The shared factor fastest, then each entry's own; the entries one after the other.
  EXPECT_THAT(plan->CellLevels(0),
              UnorderedElementsAre(Pair("method", "adapter"), Pair("input", "SA_in"), Pair("output", "FFN_in"),
                                   Pair("activation", "relu"), Pair("learning_rate", "0.001")));
  EXPECT_EQ(plan->CellLevels(1).at("learning_rate"), "0.0001");
  EXPECT_EQ(plan->CellLevels(2).at("activation"), "silu");
  EXPECT_THAT(plan->CellLevels(11),
              UnorderedElementsAre(Pair("method", "lora"), Pair("rank", "4"), Pair("targets", "to_q to_v"),
                                   Pair("learning_rate", "0.0001")));
  EXPECT_THAT(plan->CellLevels(16), UnorderedElementsAre(Pair("method", "biases"), Pair("learning_rate", "0.001")));
  EXPECT_EQ(plan->LevelIndex(16, 4), Plan::kAbsent);
  EXPECT_EQ(static_cast<int32_t>(plan->LevelIndex(16, 4)), -1) << "an analysis' missing level";
}

TEST(MethodsTest, CellsHaveTheirMethodsSettings) {
  const Plan plan = *Plan::Create(SpecOf(kMethodsYaml));
  const settings::Settings adapter = plan.CellSettings(4), lora = plan.CellSettings(15), biases = plan.CellSettings(17);
  EXPECT_EQ(adapter.Text("method.kind"), "adapter");
  EXPECT_EQ(adapter.Text("method.input"), "CA_out");
  EXPECT_FALSE(adapter.Has("method.rank"));
  EXPECT_EQ(lora.Integer("method.rank"), 16);
  EXPECT_THAT(lora.Names("method.targets"), ElementsAre("to_q", "to_v"));
  EXPECT_EQ(lora.Real("train.learning_rate"), 0.0001);
  EXPECT_FALSE(lora.Has("method.input"));
  EXPECT_EQ(biases.Text("method.kind"), "bitfit");
  EXPECT_FALSE(biases.Has("method.rank"));
}

TEST(MethodsTest, CanonicalSpecGivesTheSamePlan) {
  const Plan first = *Plan::Create(SpecOf(kMethodsYaml));
  const absl::StatusOr<Plan> second = Plan::Create(first.spec());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->spec(), first.spec());
  ASSERT_EQ(second->cell_count(), first.cell_count());
  for (int64_t cell = 0; cell < first.cell_count(); ++cell) EXPECT_EQ(second->CellLevels(cell), first.CellLevels(cell));
}

TEST(MethodsTest, PatternSelectsItsCellAlone) {
  const Plan all = *Plan::Create(
      SpecOf(WithPart(kMethodsYaml, "kind: bitfit, label: biases", "kind: lora, label: wide, rank: [32, 64]")));
  for (int64_t cell = 0; cell < all.cell_count(); ++cell) {
    SweepSpec spec = all.spec();
    spec.selections = {all.PatternOf(cell)};
    const absl::StatusOr<Plan> one = Plan::Create(spec);
    ASSERT_TRUE(one.ok()) << one.status();
    ASSERT_EQ(one->cell_count(), 1);
    EXPECT_EQ(one->CellLevels(0), all.CellLevels(cell));
  }
}

TEST(MethodsTest, PatternsNameMethodsAndTheirFactors) {
  const Plan plan = *Plan::Create(
      SpecOf(std::string(kMethodsYaml) + "exclude: [{method: biases}, {rank: 16, learning_rate: 1e-4}]\n"));
  EXPECT_EQ(plan.cell_count(), 18 - 2 - 2);
  EXPECT_THAT(plan.notes(), Contains("method: the exclusions and selections leave no cell with biases"));
  EXPECT_THAT(RefusalOf(std::string(kMethodsYaml) + "exclude: [{rnk: 16}]\n"),
              HasSubstr("f:12:17: rnk is not a factor of this sweep; did you mean 'rank'?"));
}

TEST(MethodsTest, AFactorOfTwoMethodsIsOneForEach) {
  const std::string text =
      WithMethods("  - {kind: lora, rank: [4, 16]}\n  - {kind: lora, label: wide, targets: all, rank: [4, 32]}\n");
  const Plan plan = *Plan::Create(SpecOf(text));
  EXPECT_THAT(plan.CellLevels(0),
              UnorderedElementsAre(Pair("method", "lora"), Pair("lora.rank", "4"), Pair("learning_rate", "0.001")));
  EXPECT_EQ(plan.CellLevels(7).at("wide.rank"), "32");
  EXPECT_EQ(plan.CellSettings(7).Integer("method.rank"), 32);
  EXPECT_EQ(plan.CellSettings(7).Text("method.targets"), "all");
  EXPECT_THAT(RefusalOf(text + "exclude: [{rank: 4}]\n"),
              HasSubstr("several methods have a factor rank: write lora.rank or wide.rank"));
  EXPECT_EQ(Plan::Create(SpecOf(text + "exclude: [{wide.rank: 4}]\n"))->cell_count(), 6);
}

TEST(MethodsTest, EntriesThatAreNoDesignAreRefused) {
  const auto refused = [](const std::string& entry) { return RefusalOf(WithMethods("  - " + entry + "\n")); };
  EXPECT_THAT(refused("{rank: 4}"), HasSubstr("f:6:5: an entry needs a kind: one of adapter, lora, full, bitfit"));
  EXPECT_THAT(refused("{kind: lara}"),
              AllOf(HasSubstr("f:6:12: method.kind: 'lara' is not one of adapter, lora, full, bitfit"),
                    HasSubstr("; did you mean 'lora'?")));
  EXPECT_THAT(refused("{kind: lora, rnak: 4}"),
              HasSubstr("f:6:18: 'rnak' is no setting of a method; did you mean 'rank'?"));
  EXPECT_THAT(refused("{kind: lora, rank: [4, four]}"), HasSubstr("f:6:28: method.rank: 'four' is not a whole number"));
  EXPECT_THAT(refused("{kind: lora, width: 4}"),
              HasSubstr("f:6:25: method.width: only meaningful where method.kind is adapter"));
  EXPECT_THAT(refused("{kind: lora, positions: all}"), HasSubstr("positions are an adapter's; lora has none"));
  EXPECT_THAT(refused("{kind: adapter, input: SA_in, width: 8}"), HasSubstr("f:6:5: method.output: missing"));
  EXPECT_THAT(refused("{kind: adapter, width: 8, input: [SA_in], output: [Res_in, Res_out]}"),
              AllOf(HasSubstr("f:6:5: no settings of this method make a legal pair"),
                    HasSubstr("SA_in -> Res_in is not legal")));
  EXPECT_THAT(refused("{kind: [lora, full]}"), HasSubstr("give each kind an entry of its own"));
  EXPECT_THAT(refused("{kind: bitfit}\n  - {kind: bitfit}"),
              HasSubstr("f:7:5: there are two entries 'bitfit': give each a label"));
  EXPECT_THAT(refused("{kind: bitfit, train.learning_rate: 0.1}"),
              HasSubstr("f:6:41: train.learning_rate is varied for all methods"));
  EXPECT_THAT(refused("{kind: bitfit, budget.steps: 9}"),
              HasSubstr("budget.steps has the fixed value '5' for all methods"));
  EXPECT_THAT(refused("{kind: bitfit}\nmethod: {rank: 4}"),
              HasSubstr("f:7:16: 'methods' are given: put method.rank into their entries"));
  EXPECT_THAT(refused("{kind: bitfit}\npositions: all"), HasSubstr("put the positions into the adapter's entry"));
}

TEST(MethodsTest, OutlookKeepsNestedFactorsApart) {
  const absl::StatusOr<PlanOutlook> outlook = Outlook(*Plan::Create(SpecOf(kMethodsYaml)));
  ASSERT_TRUE(outlook.ok()) << outlook.status();
  std::map<std::string, int64_t> df;
  for (const TermOutlook& term : outlook->terms) {
    df[term.title()] = term.df;
    EXPECT_EQ(term.aliased_df(), 0) << term.term;
    EXPECT_THAT(term.not_estimable, IsEmpty()) << term.term;
  }
  EXPECT_THAT(df, UnorderedElementsAre(Pair("method", 2), Pair("input in adapter", 1), Pair("activation in adapter", 1),
                                       Pair("rank in lora", 1), Pair("targets in lora", 1), Pair("learning_rate", 1)));
  EXPECT_EQ(outlook->residual_df, 36 - 8 - 1);
  // Two means of 8 trials each, in a balanced part of the design.
  for (const TermOutlook& term : outlook->terms) {
    if (term.title() == "rank in lora") {
      EXPECT_NEAR(term.hardest_variance, 2.0 / 8, 1e-9);
    }
  }
}

TEST(MethodsTest, OutlookOfANestedFactorsInteraction) {
  const Plan plan = *Plan::Create(SpecOf(kMethodsYaml));
  // However it is written: method and method:learning_rate are its margins.
  for (const char* formula : {"rank*learning_rate", "method*rank*learning_rate"}) {
    const absl::StatusOr<PlanOutlook> outlook = Outlook(plan, formula);
    ASSERT_TRUE(outlook.ok()) << outlook.status();
    std::vector<std::pair<std::string, int64_t>> df;
    for (const TermOutlook& term : outlook->terms) {
      df.emplace_back(term.title(), term.df);
      EXPECT_EQ(term.aliased_df(), 0) << term.term;
    }
    EXPECT_THAT(df, UnorderedElementsAre(Pair("method", 2), Pair("learning_rate", 1), Pair("rank in lora", 1),
                                         Pair("method:learning_rate", 2), Pair("rank:learning_rate in lora", 1)));
    EXPECT_EQ(outlook->residual_df, 36 - 8 - 1);
  }
}

std::string WithFactors(const std::string& factors) {
  return WithPart(
      WithPart(WithPart(kMethodsYaml, "images: /i, instance_prompt: a photo of sks, class_prompt: a photo of cat face",
                        "class_images: 8"),
               "task: {class_images: 8}\n", ""),
      "{train.learning_rate: [0.001, 0.0001]}", factors);
}

constexpr char kSubjects[] =
    "{subject: {cats: {task.images: /c, instance_prompt: sks, class_prompt: a cat}, dogs: {task.images: /d, instance_prompt: sks, class_prompt: a dog}}}";

TEST(LevelSettingsTest, ALevelSetsSeveralSettings) {
  const absl::StatusOr<Plan> plan = Plan::Create(SpecOf(WithFactors(kSubjects)));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cell_count(), 18);
  EXPECT_EQ(plan->CellLevels(1).at("subject"), "dogs");
  EXPECT_EQ(plan->CellSettings(0).Text("task.images"), "/c");
  EXPECT_EQ(plan->CellSettings(1).Text("task.images"), "/d");
  EXPECT_EQ(plan->CellSettings(1).Text("task.class_prompt"), "a dog");
  EXPECT_THAT(plan->ValuesOf("task.images"), ElementsAre("/c", "/d"));
  EXPECT_EQ(Plan::Create(plan->spec())->spec(), plan->spec());
  SweepSpec spec = SpecOf(WithPart(WithFactors(kSubjects), "/c", "c"));
  MakePathsAbsolute(spec, "/work");
  EXPECT_EQ(Plan::Create(spec)->CellSettings(0).Text("task.images"), "/work/c");
}

TEST(LevelSettingsTest, LevelsOfDifferentTasksSetDifferentSettings) {
  const absl::StatusOr<Plan> plan = Plan::Create(SpecOf(WithFactors(
      "{data: {one: {task.kind: dreambooth, task.images: /c, instance_prompt: sks, class_prompt: a cat}, set: {task.kind: finetune, task.images: /d}}}")));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(plan->CellSettings(1).Has("task.instance_prompt"));
  EXPECT_EQ(plan->CellSettings(1).Real("task.caption_dropout"), 0.1);
}

TEST(LevelSettingsTest, NamesAndLevelsThatMisleadAreRefused) {
  EXPECT_THAT(RefusalOf(WithFactors("{scale: {a: {task.images: /c}}}")), HasSubstr("'scale' is the name of a setting"));
  EXPECT_THAT(RefusalOf(WithFactors("{steps: {a: {task.images: /c}}}")), HasSubstr("'steps' is the name of a setting"));
  EXPECT_THAT(RefusalOf(WithFactors("{replicate: {a: {task.images: /c}}}")),
              HasSubstr("'replicate' is a factor of its own"));
  EXPECT_THAT(RefusalOf(WithPart(WithFactors(kSubjects), ", class_prompt: a dog", "")),
              HasSubstr("subject: the level 'dogs' does not set task.class_prompt, which another level sets"));
  EXPECT_THAT(RefusalOf(WithFactors("{subject: {cats: {task.imges: /c}}}")),
              HasSubstr("f:8:40: there is no setting 'task.imges'; did you mean 'task.images'?"));
  EXPECT_THAT(RefusalOf(WithFactors("{subject: {cats: 3}}")),
              HasSubstr("f:8:27: factors.subject: expected what the level 'cats' sets"));
  EXPECT_THAT(RefusalOf(WithFactors("{subject: {cats: {budget.steps: 3}}}")),
              HasSubstr("budget.steps is a factor and also has the fixed value '5'"));
}

// Files from before there were other methods.
TEST(MethodsTest, AFileWithOneMethodIsWhatItWas) {
  const SweepSpec spec = SpecOf(R"(name: before
base: /b
scorer: /s
task: {images: /i, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
method: {kind: adapter, width: 8}
factors: {input: [SA_in, CA_out], output: [FFN_in, Trans_out], activation: [relu, silu]}
budget: {steps: 5}
)");
  const Plan plan = *Plan::Create(spec);
  EXPECT_THAT(plan.spec().methods, IsEmpty());
  EXPECT_EQ(plan.factors(), plan.spec().factors);
  EXPECT_THAT(plan.CellLevels(5),
              UnorderedElementsAre(Pair("input", "CA_out"), Pair("output", "FFN_in"), Pair("activation", "silu")));
}

}  // namespace
}  // namespace loupe::coordinator::plan
