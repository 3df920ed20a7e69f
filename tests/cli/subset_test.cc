#include "cli/subset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "common/atomic_file.h"
#include "coordinator/plan/sweep_file.h"

namespace loupe::cli {
namespace {

using coordinator::plan::Plan;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kFile[] = R"(name: subset-sweep
base: /b
scorer: /s
task: {images: /i, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
method: {width: 8}
positions: all
factors: {activation: all, scale: [0.5, 1, 2, 4]}
replicates: 3
budget: {steps: 5}
seed: 11
)";

Plan PlanOfText(const std::string& text) {
  const auto file = coordinator::plan::ParseSweepFile(text, "f");
  EXPECT_TRUE(file.ok()) << file.status();
  auto plan = Plan::Create(file->spec);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

std::set<std::map<std::string, std::string>> CellsOf(const Plan& plan) {
  std::set<std::map<std::string, std::string>> cells;
  for (int64_t cell = 0; cell < plan.cell_count(); ++cell) cells.insert(plan.CellLevels(cell));
  return cells;
}

TEST(SubsetTest, OrthogonalArrayIsTakenWhereOneHasThatManyCells) {
  const Plan plan = PlanOfText(kFile);
  ASSERT_EQ(plan.cell_count(), 320);
  const auto subset = ChooseSubset(plan, int64_t{80} * 3, "");
  ASSERT_TRUE(subset.ok()) << subset.status();
  EXPECT_EQ(subset->fraction.method, "orthogonal array");
  EXPECT_NEAR(subset->fraction.quality.d_efficiency, 1, 1e-9);
  // Every level of activation as often as every other, and so with scale.
  std::map<std::string, int> count;
  const auto narrowed = Plan::Create(subset->spec);
  ASSERT_TRUE(narrowed.ok()) << narrowed.status();
  for (int64_t cell = 0; cell < narrowed->cell_count(); ++cell) ++count[narrowed->CellLevels(cell).at("activation")];
  for (const auto& [level, cells] : count) EXPECT_EQ(cells, 20) << level;
}

TEST(SubsetTest, NarrowedSpecRunsExactlyTheChosenCells) {
  const Plan plan = PlanOfText(kFile);
  for (const int64_t cells : {24, 80, 97, 319}) {
    const auto subset = ChooseSubset(plan, cells * 3, "");
    ASSERT_TRUE(subset.ok()) << subset.status();
    const auto narrowed = Plan::Create(subset->spec);
    ASSERT_TRUE(narrowed.ok()) << narrowed.status();
    std::set<std::map<std::string, std::string>> chosen;
    for (const size_t cell : subset->fraction.chosen) chosen.insert(plan.CellLevels(static_cast<int64_t>(cell)));
    EXPECT_EQ(narrowed->trial_count(), cells * 3);
    EXPECT_EQ(CellsOf(*narrowed), chosen);
  }
}

TEST(SubsetTest, WrittenFileRunsExactlyTheChosenCells) {
  const Plan plan = PlanOfText(kFile);
  const auto subset = ChooseSubset(plan, int64_t{96} * 3, "");
  ASSERT_TRUE(subset.ok()) << subset.status();
  const auto text = WithSelections(kFile, subset->spec);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(CellsOf(PlanOfText(*text)), CellsOf(*Plan::Create(subset->spec)));
}

constexpr char kMethodsFile[] = R"(name: subset-methods
base: /b
scorer: /s
task: {images: /i, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
methods:
  - {kind: adapter, width: 8, positions: all, activation: [relu, silu]}
  - {kind: lora, label: low rank, rank: [2, 4, 8], targets: [attention, all]}
  - {kind: lora, label: dora, rank: [2, 4], dora: true}
factors: {learning_rate: [0.01, 0.001]}
budget: {steps: 5}
seed: 11
)";

TEST(SubsetTest, MethodsAreChosenFromAndWritten) {
  const Plan plan = PlanOfText(kMethodsFile);
  ASSERT_EQ(plan.cell_count(), (40 + 6 + 2) * 2);
  const auto subset = ChooseSubset(plan, 40, "");
  ASSERT_TRUE(subset.ok()) << subset.status();
  EXPECT_GT(subset->fraction.quality.d_efficiency, 0) << "every term can be estimated";
  std::set<std::map<std::string, std::string>> chosen;
  for (const size_t cell : subset->fraction.chosen) chosen.insert(plan.CellLevels(static_cast<int64_t>(cell)));
  EXPECT_EQ(chosen.size(), 40u);
  const auto text = WithSelections(kMethodsFile, subset->spec);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(CellsOf(PlanOfText(*text)), chosen);
}

TEST(SubsetTest, SameSeedChoosesTheSameCells) {
  const Plan plan = PlanOfText(kFile);
  EXPECT_EQ(ChooseSubset(plan, 60, "")->fraction.chosen, ChooseSubset(plan, 60, "")->fraction.chosen);
}

TEST(SubsetTest, ChosenCellsCarryTheTermsThatWereAskedFor) {
  const Plan plan = PlanOfText(kFile);
  // Mean + 14 − 1 of the positions + 3 + 3 + 9 of the interaction = 29 parameters.
  EXPECT_THAT(std::string(ChooseSubset(plan, int64_t{28} * 3, "input + output + activation*scale").status().message()),
              HasSubstr("29 parameters"));
  const auto subset = ChooseSubset(plan, int64_t{64} * 3, "input + output + activation*scale");
  ASSERT_TRUE(subset.ok()) << subset.status();
  for (const analysis::stats::DesignTerm& term : subset->fraction.quality.terms)
    EXPECT_EQ(term.df, term.nominal_df) << term.term;
}

TEST(SubsetTest, TrialsMustBeWholeReplicatesAndBothNeighboursAreNamed) {
  const auto subset = ChooseSubset(PlanOfText(kFile), 100, "");
  EXPECT_EQ(subset.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(subset.status().message()), AllOf(HasSubstr("99"), HasSubstr("102"), HasSubstr("3 times")));
}

TEST(SubsetTest, MoreTrialsThanThereAreIsRefusedInTrials) {
  const auto subset = ChooseSubset(PlanOfText(kFile), 963, "");
  EXPECT_THAT(std::string(subset.status().message()), AllOf(HasSubstr("963"), HasSubstr("960")));
}

TEST(SubsetTest, FileThatNamesItsCellsAlreadyIsRefused) {
  const Plan plan = PlanOfText(kFile);
  const auto subset = ChooseSubset(plan, int64_t{96} * 3, "");
  ASSERT_TRUE(subset.ok());
  const auto text = WithSelections(std::string(kFile) + "only: [{scale: 1}]\n", subset->spec);
  EXPECT_THAT(std::string(text.status().message()), HasSubstr("'only'"));
}

TEST(SubsetTest, FileThatCannotBeAppendedToIsRefused) {
  const auto subset = ChooseSubset(PlanOfText(kFile), int64_t{96} * 3, "");
  ASSERT_TRUE(subset.ok());
  const auto text = WithSelections(
      "{name: flow-sweep, base: /b, scorer: /s, task: {images: /i, instance_prompt: p, class_prompt: c}, method: "
      "{width: 8}, "
      "positions: all, factors: {activation: all, scale: [0.5, 1, 2, 4]}, replicates: 3, budget: {steps: 5}}\n",
      subset->spec);
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(text.status().message()), HasSubstr("one key per line"));
}

}  // namespace
}  // namespace loupe::cli
