// What stands behind the F table, and the JSON's schema.
#include <cmath>
#include <fstream>
#include <set>

#include "analysis/report/anova_format.h"
#include "analysis/report/report.h"
#include "analysis/report/sweep_analysis.h"
#include "analysis/stats/csv_table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/analysis/report/json_schema.h"
#include "tests/analysis/report/sweep_fixture.h"

namespace loupe::analysis::report {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

Json Schema() {
  std::ifstream file("docs/report.schema.json");
  return Json::parse(file);
}

TEST(ReportSchemaTest, EveryReportFitsIt) {
  const JsonSchema schema(Schema());
  EXPECT_THAT(schema.Violations(Json::parse(RenderJson(MakeAdapterSweep(Plain()), {}).value())), IsEmpty());
  EXPECT_THAT(schema.Violations(Json::parse(RenderJson(MakeUnfinishedSweep(0), {}).value())), IsEmpty());
  EXPECT_THAT(schema.Violations(Json::parse(RenderJson(MakeUnfinishedSweep(9), {}).value())), IsEmpty());
}

TEST(ReportSchemaTest, TheAnovaCommandsOutputFitsItWithoutTheSweepsKeys) {
  Json schema = Schema();
  std::set<std::string> sweep_only;
  for (const Json& key : schema["x-sweep-only"]) sweep_only.insert(key.get<std::string>());
  Json required = Json::array();
  for (const Json& key : schema["required"]) {
    if (!sweep_only.contains(key.get<std::string>())) required.push_back(key);
  }
  for (const std::string& key : sweep_only) schema["properties"].erase(key);
  schema["required"] = required;
  const auto analysis = AnalyseFactorial(ThreeCells(), {});
  ASSERT_TRUE(analysis.ok()) << analysis.status();
  EXPECT_THAT(JsonSchema(schema).Violations(Json::parse(FormatAnovaJson(*analysis))), IsEmpty());
}

TEST(ReportSchemaTest, TheCheckerFindsWhatIsWrong) {
  const JsonSchema schema(Schema());
  Json json = Json::parse(RenderJson(MakeUnfinishedSweep(9), {}).value());
  json["terms"][0]["f"] = "large";
  json.erase("hash");
  json["extra"] = 1;
  EXPECT_EQ(schema.Violations(json).size(), 3u);
}

TEST(CellRankingTest, IntervalsComeFromThePooledSpread) {
  const auto analysis = AnalyseFactorial(ThreeCells(), {});
  ASSERT_TRUE(analysis.ok()) << analysis.status();
  const CellRanking& ranking = analysis->details->ranking;
  ASSERT_EQ(ranking.cells.size(), 3u);
  EXPECT_TRUE(ranking.from_replicates);
  EXPECT_EQ(ranking.error_df, 6);
  EXPECT_EQ(ranking.cells[0].levels[0], "high");
  // s² = 0.06/6 = 0.01; t(0.975, 6) = 2.446911851 (R: qt(0.975, 6)).
  EXPECT_NEAR(ranking.cells[0].high - ranking.cells[0].mean, 2.446911851 * 0.1 / std::sqrt(3.0), 1e-9);
}

TEST(CellRankingTest, CellsNearTheBestAreKeptAndFarOnesAreNot) {
  // s·√(2/3) = 0.08165; Dunnett's one-sided 5 % point for 2 comparisons, 6 df is 2.34 (Dunnett 1955, table 1a): 0.191.
  // The gap of 0.1 is inside, that of 2 is not; the best's own bound is the gap to the second plus 0.191.
  const auto analysis = AnalyseFactorial(ThreeCells(), {});
  const CellRanking& ranking = analysis->details->ranking;
  EXPECT_EQ(ranking.may_be_best, 2);
  EXPECT_TRUE(ranking.cells[1].may_be_best);
  EXPECT_FALSE(ranking.cells[2].may_be_best);
  EXPECT_NEAR(ranking.cells[1].best_high, -0.1 + 2.34 * 0.1 * std::sqrt(2.0 / 3), 0.005 * 0.0817 + 1e-9);
  EXPECT_NEAR(ranking.cells[0].best_high, 0.1 + 2.34 * 0.1 * std::sqrt(2.0 / 3), 0.005 * 0.0817 + 1e-9);
}

TEST(CellRankingTest, LessIsBetterTurnsTheOrderRound) {
  AnalysisOptions options;
  options.smaller_is_better = true;
  const auto analysis = AnalyseFactorial(ThreeCells(), options);
  const CellRanking& ranking = analysis->details->ranking;
  EXPECT_EQ(ranking.cells[0].levels[0], "low");
  EXPECT_EQ(ranking.may_be_best, 1);
}

TEST(CellRankingTest, WithoutReplicatesTheModelPredicts) {
  const auto sweep = AnalyseSweep(MakeAdapterSweep(Plain(1)), {});
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  const CellRanking& ranking = sweep->analysis.details->ranking;
  EXPECT_FALSE(ranking.from_replicates);
  EXPECT_THAT(ranking.reason, IsEmpty());
  EXPECT_EQ(ranking.cells.size(), sweep->analysis.cells.size());
  EXPECT_EQ(ranking.cells[0].levels[0], "CA_out");  // the fixture's best input
  EXPECT_EQ(ranking.cells[0].levels[1], "FFN_in");
}

TEST(HalfNormalTest, TheFixturesTrueEffectsStandOut) {
  const auto sweep = AnalyseSweep(MakeAdapterSweep(Plain()), {});
  const HalfNormal& half = sweep->analysis.details->half_normal;
  ASSERT_THAT(half.reason, IsEmpty());
  EXPECT_EQ(half.effects.back().term, "input");
  // The noise has sd 0.012 and an effect of one degree of freedom √(SS/n): sd 0.012/√630 = 0.00048 where nothing is
  // true.
  EXPECT_NEAR(half.pseudo_std_error, 0.00048, 0.0001);
  std::set<std::string> standing;
  for (size_t i = 0; i < half.effects.size(); ++i) {
    if (i > 0) {
      EXPECT_GE(half.effects[i].size, half.effects[i - 1].size);
    }
    if (half.effects[i].size > half.margin_of_error) standing.insert(half.effects[i].term);
  }
  EXPECT_TRUE(standing.contains("input"));
  EXPECT_TRUE(standing.contains("scale"));
}

TEST(ModelDetailsTest, AdjustedMeansAreTheModels) {
  // One-way: the model's mean of a level is the plain one and its error s/√n.
  const auto analysis = AnalyseFactorial(ThreeCells(), {});
  const stats::MarginalMeans& means = analysis->details->comparisons[0].means;
  EXPECT_NEAR(means.means[1].mean, 2.9, 1e-12);
  EXPECT_NEAR(means.means[1].std_error, 0.1 / std::sqrt(3.0), 1e-12);
  EXPECT_EQ(analysis->details->comparisons[0].pairs.size(), 3u);
}

TEST(ModelDetailsTest, AssumptionsAreSaidInTheText) {
  const std::string text = RenderText(MakeAdapterSweep(Plain()), {}).value();
  EXPECT_THAT(text, HasSubstr("\nAssumptions\n- "));
  EXPECT_THAT(text, HasSubstr("cells cannot be told from the best at 95 % confidence"));
}

}  // namespace
}  // namespace loupe::analysis::report
