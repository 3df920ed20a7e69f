#include "coordinator/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/error_details.h"
#include "common/positions.h"
#include "common/settings/settings.h"
#include "tests/testing/changed_default.h"

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

SweepSpec SmallSpec() {
  SweepSpec spec;
  spec.settings = {{"base", "/b"},
                   {"scorer", "/s"},
                   {"task.images", "/i"},
                   {"task.instance_prompt", "a photo of sks"},
                   {"task.class_prompt", "a photo of cat face"},
                   {"method.width", "8"},
                   {"budget.steps", "5"}};
  spec.factors = {{"method.input", {"SA_in", "CA_out"}},
                  {"method.output", {"FFN_in", "Trans_out"}},
                  {"method.activation", {"relu", "silu"}}};
  return spec;
}

std::vector<std::string> AllNames(const std::vector<Position>& positions) {
  std::vector<std::string> names;
  for (const Position position : positions) names.emplace_back(PositionName(position));
  return names;
}

// The full design of the paper: 10 inputs × 7 outputs × 4 activations × 4 scales, of which 20 pairs are legal.
SweepSpec FullSpec() {
  SweepSpec spec = SmallSpec();
  spec.factors = {{"input", AllNames(InputPositions())},
                  {"output", AllNames(OutputPositions())},
                  {"activation", {"relu", "sigmoid", "silu", "identity"}},
                  {"scale", {"0.5", "1", "2", "4"}}};
  return spec;
}

std::vector<FieldViolation> ViolationsOf(const SweepSpec& spec) {
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  return FieldViolationsOf(plan.status());
}

auto Violation(const std::string& field, const std::string& part) {
  return AllOf(Field(&FieldViolation::field, field), Field(&FieldViolation::description, HasSubstr(part)));
}

TEST(PlanTest, FullDesignHasTheTwentyLegalPairsTimesFourTimesFour) {
  const absl::StatusOr<Plan> plan = Plan::Create(FullSpec());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cell_count(), 320);
  std::set<std::pair<std::string, std::string>> pairs;
  for (int64_t cell = 0; cell < plan->cell_count(); ++cell) {
    const auto levels = plan->CellLevels(cell);
    pairs.emplace(levels.at("input"), levels.at("output"));
    EXPECT_TRUE(IsLegalPair(*ParsePosition(levels.at("input")), *ParsePosition(levels.at("output"))));
  }
  EXPECT_EQ(pairs.size(), 20u);
  EXPECT_THAT(plan->notes(), IsEmpty());
}

TEST(PlanTest, LastFactorVariesFastestAndReplicatesAreBlocks) {
  SweepSpec spec = SmallSpec();
  spec.replicates = 3;
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->cell_count(), 8);
  EXPECT_EQ(plan->trial_count(), 24);
  EXPECT_THAT(plan->CellLevels(0),
              UnorderedElementsAre(Pair("input", "SA_in"), Pair("output", "FFN_in"), Pair("activation", "relu")));
  EXPECT_EQ(plan->CellLevels(1).at("activation"), "silu");
  EXPECT_EQ(plan->CellLevels(2).at("output"), "Trans_out");
  EXPECT_EQ(plan->CellLevels(4).at("input"), "CA_out");
  EXPECT_EQ(plan->Place(0), (TrialPlace{0, 0}));
  EXPECT_EQ(plan->Place(8), (TrialPlace{0, 1}));
  EXPECT_EQ(plan->Place(23), (TrialPlace{7, 2}));
}

TEST(PlanTest, TrialIndexIsTheInverseOfPlace) {
  SweepSpec spec = FullSpec();
  spec.replicates = 3;
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok());
  for (int64_t trial = 0; trial < plan->trial_count(); ++trial) {
    const TrialPlace place = plan->Place(trial);
    EXPECT_EQ(plan->TrialIndex(place.cell, place.replicate), trial);
  }
}

TEST(PlanTest, CanonicalSpecGivesTheSamePlan) {
  SweepSpec spec = FullSpec();
  spec.positions = {};
  spec.factors[3].levels = {"0.50", "1.0", "2e0", "4"};
  spec.factors[2].levels = {"ReLU", "SIGMOID"};
  spec.exclusions = {{{"activation", "sigmoid"}, {"scale", "4.0"}}};
  const absl::StatusOr<Plan> first = Plan::Create(spec);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->factors()[3].key, "method.scale");
  EXPECT_THAT(first->factors()[3].levels, ElementsAre("0.5", "1", "2", "4"));
  const absl::StatusOr<Plan> second = Plan::Create(first->spec());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->spec(), first->spec());
  ASSERT_EQ(second->cell_count(), first->cell_count());
  for (int64_t cell = 0; cell < first->cell_count(); ++cell)
    EXPECT_EQ(second->CellLevels(cell), first->CellLevels(cell));
}

TEST(PlanTest, CellSettingsAreCompleteAndCarryTheCellsLevels) {
  const absl::StatusOr<Plan> plan = Plan::Create(SmallSpec());
  ASSERT_TRUE(plan.ok());
  const settings::Settings settings = plan->CellSettings(7);
  EXPECT_EQ(settings.Text("method.input"), "CA_out");
  EXPECT_EQ(settings.Text("method.output"), "Trans_out");
  EXPECT_EQ(settings.Text("method.activation"), "silu");
  EXPECT_EQ(settings.Integer("budget.steps"), 5);
  EXPECT_EQ(settings.Integer("budget.batch"), 4);  // a default
}

// The half of a sweep that runs after an upgrade is the same sweep's.
TEST(PlanTest, AnUpgradesDefaultsDoNotEnter) {
  const Plan before = *Plan::Create(SmallSpec());
  EXPECT_EQ(before.spec().defaults, settings::SettingDefaults::OfVersion(settings::kSettingsVersion));
  const testing::ChangedDefault upgrade("budget.batch", "64");
  const absl::StatusOr<Plan> after = Plan::Create(before.spec());
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->spec(), before.spec());
  for (int64_t cell = 0; cell < before.cell_count(); ++cell)
    EXPECT_EQ(after->CellSettings(cell).values(), before.CellSettings(cell).values());
  EXPECT_EQ(Plan::Create(SmallSpec())->CellSettings(0).Integer("budget.batch"), 64)
      << "a new sweep has the new default";
}

TEST(PlanTest, DefaultsOfAnotherTableAreRefused) {
  SweepSpec spec = SmallSpec();
  spec.defaults = settings::SettingDefaults::OfVersion(settings::kSettingsVersion);
  spec.defaults.version = settings::kSettingsVersion + 1;
  EXPECT_THAT(ViolationsOf(spec), ElementsAre(Violation("spec.defaults.version", "use one Loupe for both")));
  spec.defaults.version = 1;
  EXPECT_THAT(ViolationsOf(spec),
              Contains(Violation("spec.defaults.values[\"method.rank\"]", "version 1 of the settings has no")));
  spec.defaults = settings::SettingDefaults::OfVersion(1);
  spec.defaults.values["budget.batch"] = "0";
  EXPECT_THAT(ViolationsOf(spec),
              Contains(Violation("spec.defaults.values[\"budget.batch\"]", "a whole number from 1")));
  spec.defaults.values.erase("budget.batch");
  EXPECT_THAT(ViolationsOf(spec), ElementsAre(Violation("spec.settings[\"budget.batch\"]", "it always has a value")));
}

TEST(PlanTest, CellSettingsAreWhatEachCellsValuesMakeByThemselves) {
  SweepSpec spec = FullSpec();
  spec.factors.push_back({"score.primary", {"clip_i", "clip_t"}});
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (int64_t cell = 0; cell < plan->cell_count(); ++cell) {
    std::map<std::string, std::string> values = plan->spec().settings;
    for (size_t f = 0; f < plan->factors().size(); ++f) {
      values[plan->factors()[f].key] = plan->factors()[f].levels[plan->LevelIndex(cell, f)];
    }
    EXPECT_EQ(plan->CellSettings(cell).values(), settings::Settings::Create(values)->values());
  }
}

TEST(PlanTest, ALevelThatNeedsAnotherSettingIsRefusedInWhicheverCellItStands) {
  SweepSpec spec = SmallSpec();
  spec.factors.push_back({"score.primary", {"clip_i", "fid"}});
  EXPECT_THAT(ViolationsOf(spec),
              ElementsAre(Violation("spec.factors[3].key", "fid is not computed without score.inception")));
}

TEST(PlanTest, ExclusionsTakeAwayExactlyTheMatchingCells) {
  SweepSpec spec = FullSpec();
  spec.exclusions = {{{"activation", "sigmoid"}, {"scale", "4"}}, {{"input", "CA_c"}}};
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  // 20 sigmoid-at-4 cells, 16 cells of CA_c, one of them in both.
  EXPECT_EQ(plan->cell_count(), 320 - 20 - 16 + 1);
  for (int64_t cell = 0; cell < plan->cell_count(); ++cell) {
    const auto levels = plan->CellLevels(cell);
    EXPECT_FALSE(levels.at("activation") == "sigmoid" && levels.at("scale") == "4");
    EXPECT_NE(levels.at("input"), "CA_c");
  }
  EXPECT_THAT(plan->notes(), Contains(HasSubstr("leave no cell with CA_c")));
}

TEST(PlanTest, SelectionsKeepExactlyTheMatchingCells) {
  SweepSpec spec = SmallSpec();
  spec.selections = {{{"input", "SA_in"}, {"output", "FFN_in"}, {"activation", "relu"}},
                     {{"input", "CA_out"}, {"activation", "silu"}}};
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cell_count(), 3);
}

TEST(PlanTest, NamedPairsAddTheirFactors) {
  SweepSpec spec = SmallSpec();
  spec.factors = {{"activation", {"relu", "silu"}}};
  spec.positions = {{"CA_out", "FFN_in"}, {"SA_in", "Trans_out"}};
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->factors().size(), 3u);
  EXPECT_EQ(plan->factors()[0].key, "method.input");
  EXPECT_EQ(plan->factors()[1].key, "method.output");
  // CA_out -> Trans_out and SA_in -> FFN_in are legal, but were not asked for.
  EXPECT_EQ(plan->cell_count(), 4);
  const absl::StatusOr<Plan> again = Plan::Create(plan->spec());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->cell_count(), 4);
}

TEST(PlanTest, IllegalNamedPairSaysWhyAndWhatIsLegal) {
  SweepSpec spec = SmallSpec();
  spec.factors.clear();
  spec.positions = {{"FFN_in", "SA_in"}, {"CA_c", "FFN_in"}, {"CA_out", "CA_out"}};
  const std::vector<FieldViolation> violations = ViolationsOf(spec);
  EXPECT_THAT(violations, Contains(Violation("spec.positions[0]",
                                             "SA_in comes before FFN_in on the data path; legal outputs "
                                             "of FFN_in are FFN_in, Trans_out")));
  EXPECT_THAT(violations, Contains(Violation("spec.positions[1]", "CA_c is the text context")));
  EXPECT_THAT(violations, Contains(Violation("spec.positions[2].output", "'CA_out' is not one of SA_in, CA_in")));
}

TEST(PlanTest, LevelsThatNoLegalPairUsesAreNoted) {
  SweepSpec spec = SmallSpec();
  spec.factors[0].levels = {"SA_in", "Res_in"};
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cell_count(), 4);
  EXPECT_THAT(plan->notes(), Contains("input: no legal pair of this sweep uses Res_in"));
}

TEST(PlanTest, NothingLeftIsAnErrorThatShowsAnExample) {
  SweepSpec spec = SmallSpec();
  spec.factors[0].levels = {"Res_in"};
  EXPECT_THAT(ViolationsOf(spec), ElementsAre(Violation("spec.factors", "the pair Res_in -> FFN_in is not legal")));

  spec = SmallSpec();
  spec.exclusions = {{{"activation", "relu"}}, {{"activation", "silu"}}};
  EXPECT_THAT(ViolationsOf(spec), ElementsAre(Violation("spec.factors", "leave no cell")));
}

TEST(PlanTest, FixedPositionsMustBeLegalToo) {
  SweepSpec spec = SmallSpec();
  spec.factors.clear();
  spec.settings["method.input"] = "FFN_out";
  spec.settings["method.output"] = "SA_in";
  EXPECT_THAT(ViolationsOf(spec), ElementsAre(Violation("spec.settings[\"method.output\"]", "not legal")));
  spec.settings["method.output"] = "Trans_out";
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cell_count(), 1);
}

TEST(PlanTest, EveryViolationIsReportedAtOnce) {
  SweepSpec spec = SmallSpec();
  spec.settings["budget.stepz"] = "5";
  spec.settings["budget.batch"] = "none";
  spec.settings.erase("base");
  spec.factors[2].levels = {"rleu", "silu", "SiLU"};
  spec.factors.push_back({"scale", {}});
  spec.factors.push_back({"budget.steps", {"1", "2"}});
  spec.exclusions = {{{"scle", "1"}}, {}};
  spec.replicates = 0;
  const std::vector<FieldViolation> violations = ViolationsOf(spec);
  EXPECT_THAT(violations, Contains(Violation("spec.settings[\"budget.stepz\"]", "did you mean 'budget.steps'?")));
  EXPECT_THAT(violations,
              Contains(Violation("spec.settings[\"budget.batch\"]", "'none' is not a whole number from 1 to 4096")));
  EXPECT_THAT(violations, Contains(Violation("spec.settings[\"base\"]", "missing")));
  EXPECT_THAT(violations, Contains(Violation("spec.factors[2].levels[0]", "did you mean 'relu'?")));
  EXPECT_THAT(violations, Contains(Violation("spec.factors[2].levels[2]", "'silu' is given twice")));
  EXPECT_THAT(violations, Contains(Violation("spec.factors[3].levels", "no levels")));
  EXPECT_THAT(violations, Contains(Violation("spec.factors[4].key", "also has the fixed value '5'")));
  EXPECT_THAT(violations, Contains(Violation("spec.exclusions[0].levels[\"scle\"]", "did you mean 'scale'?")));
  EXPECT_THAT(violations, Contains(Violation("spec.exclusions[1]", "match every cell")));
  EXPECT_THAT(violations, Contains(Violation("spec.replicates", "0 is not a whole number from 1")));
  EXPECT_EQ(violations.size(), 10u);
}

TEST(PlanTest, MessageIsTheFirstViolationAndCountsTheRest) {
  SweepSpec spec = SmallSpec();
  spec.replicates = -1;
  spec.priority = 5000;
  EXPECT_THAT(std::string(Plan::Create(spec).status().message()),
              AllOf(HasSubstr("spec.replicates: -1"), HasSubstr("(and 1 more)")));
}

TEST(PlanTest, ExclusionOfALevelThatDoesNotOccurIsNoted) {
  SweepSpec spec = SmallSpec();
  spec.exclusions = {{{"activation", "sigmoid"}}};
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cell_count(), 8);
  EXPECT_THAT(plan->notes(), Contains(HasSubstr("leaves nothing out: method.activation has no level 'sigmoid'")));
}

TEST(PlanTest, FactorsWithTheSameShortNameKeepTheirFullKeys) {
  SweepSpec spec = SmallSpec();
  spec.settings.erase("budget.steps");
  spec.factors = {{"method.input", {"SA_in"}},
                  {"method.output", {"SA_in"}},
                  {"budget.steps", {"5", "10"}},
                  {"sample.steps", {"10", "25"}}};
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->CellLevels(0), UnorderedElementsAre(Pair("input", "SA_in"), Pair("output", "SA_in"),
                                                        Pair("budget.steps", "5"), Pair("sample.steps", "10")));
}

TEST(PlanTest, AMillionTrialsArePlannedAndOneMoreIsRefused) {
  SweepSpec spec = FullSpec();
  spec.replicates = 3125;
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->trial_count(), 1'000'000);
  EXPECT_EQ(plan->Place(999'999), (TrialPlace{319, 3124}));
  spec.replicates = 3126;
  EXPECT_THAT(ViolationsOf(spec), ElementsAre(Violation("spec.replicates", "1000320 trials")));
}

TEST(PlanTest, AMillionDifferentCellsAreNumberedInOrder) {
  SweepSpec spec = SmallSpec();
  spec.settings.erase("method.width");
  SweepFactor width{"method.width", {}};
  for (int i = 1; i <= 1000; ++i) width.levels.push_back(std::to_string(i));
  SweepFactor steps{"budget.steps", {}};
  for (int i = 1; i <= 1000; ++i) steps.levels.push_back(std::to_string(i));
  spec.settings.erase("budget.steps");
  spec.factors = {{"method.input", {"SA_in"}}, {"method.output", {"SA_in"}}, width, steps};
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cell_count(), 1'000'000);
  EXPECT_EQ(plan->CellLevels(999'998).at("steps"), "999");
  EXPECT_EQ(plan->CellLevels(999'998).at("width"), "1000");
  EXPECT_EQ(plan->CellSettings(12'345).Integer("method.width"), 13);
}

TEST(PlanTest, TooManyCombinationsAreRefusedBeforeTheyAreMade) {
  SweepSpec spec = SmallSpec();
  for (int f = 0; f < 5; ++f) {
    SweepFactor factor{std::vector<std::string>{"train.beta1", "train.beta2", "train.learning_rate",
                                                "train.weight_decay", "train.clip_norm"}[static_cast<size_t>(f)],
                       {}};
    for (int i = 1; i <= 1000; ++i) factor.levels.push_back(std::to_string(i / 2000.0));
    spec.factors.push_back(factor);
  }
  EXPECT_THAT(ViolationsOf(spec), ElementsAre(Violation("spec.factors", "more than 16000000 combinations")));
}

}  // namespace
}  // namespace loupe::coordinator::plan
