// Rankings between the levels of a factor, against SciPy (tests/analysis/stats/reference/level_rankings.py).
#include "analysis/report/level_rankings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "analysis/report/report.h"
#include "analysis/report/sweep_analysis.h"
#include "tests/analysis/report/sweep_fixture.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::report {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

const Json& Rankings() {
  static const Json reference = stats::ReadReferenceJson("level_rankings.json");
  return reference;
}

stats::DataTable OnBases() {
  stats::DataTableBuilder builder("score", {{"base", {"first", "today", "new"}},
                                            {"subject", {"cats", "dog"}},
                                            {"input", {"SA_in", "CA_in", "CA_out"}},
                                            {"activation", {"relu", "silu"}},
                                            {"replicate", {"0", "1"}}});
  for (const Json& row : Rankings()["rows"]) {
    EXPECT_TRUE(
        builder.AddRow({row["base"], row["subject"], row["input"], row["activation"], row["replicate"]}, row["score"])
            .ok());
  }
  return std::move(builder).Build();
}

absl::StatusOr<LevelRankings> Ask(const std::string& question, bool smaller_is_better = false) {
  return RankingsBetweenLevels(OnBases(), question, "replicate", smaller_is_better, 0.95, false);
}

TEST(LevelRankingsTest, AgreesWithSciPy) {
  const auto rankings = Ask("base | subject");
  ASSERT_TRUE(rankings.ok()) << rankings.status();
  EXPECT_EQ(rankings->reason, "");
  // Of the dog's second replicate the new base lacks a cell: nobody's counts.
  EXPECT_EQ(rankings->blocks, 3);
  EXPECT_EQ(rankings->blocks_in_all, 4);
  EXPECT_THAT(rankings->averaged_over, ElementsAre("subject", "replicate"));
  EXPECT_THAT(rankings->within_levels, ElementsAre("cats", "dog"));
  ASSERT_EQ(rankings->pairs.size(), 3u);
  for (size_t i = 0; i < rankings->pairs.size(); ++i) {
    const LevelPairRanking& pair = rankings->pairs[i];
    const Json& expected = Rankings()["pairs"][i];
    SCOPED_TRACE(pair.first + " and " + pair.second);
    EXPECT_EQ(pair.first, expected["first"].get<std::string>());
    EXPECT_EQ(pair.second, expected["second"].get<std::string>());
    // Ranks are whole and half numbers: only the last operations round.
    EXPECT_NEAR(pair.spearman.rho, expected["rho"], 1e-14);
    EXPECT_NEAR(pair.spearman.p, expected["p"], 1e-12);
    EXPECT_NEAR(pair.interval.low, expected["interval"][0], 1e-12);
    EXPECT_NEAR(pair.interval.high, expected["interval"][1], 1e-12);
    ASSERT_EQ(pair.rho_within.size(), 2u);
    EXPECT_NEAR(pair.rho_within[0], expected["within"]["cats"], 1e-14);
    EXPECT_NEAR(pair.rho_within[1], expected["within"]["dog"], 1e-14);
  }
  for (size_t i = 0; i < rankings->levels.size(); ++i)
    EXPECT_NEAR(rankings->with_itself[i], Rankings()["with_itself"][rankings->levels[i]], 1e-14);
}

TEST(LevelRankingsTest, CellsComeBestFirst) {
  const auto best = Ask("base | subject"), least = Ask("base | subject", true);
  ASSERT_EQ(best->cells.size(), 6u);
  for (const auto* rankings : {&*best, &*least}) {
    std::vector<double> sums;
    for (const CellOnLevels& cell : rankings->cells) sums.push_back(cell.means[0] + cell.means[1] + cell.means[2]);
    EXPECT_TRUE(rankings == &*best ? std::is_sorted(sums.rbegin(), sums.rend())
                                   : std::is_sorted(sums.begin(), sums.end()));
  }
  for (const CellOnLevels& cell : best->cells) {
    const size_t number = (cell.levels[0] == "SA_in"   ? 0
                           : cell.levels[0] == "CA_in" ? 2
                                                       : 4) +
                          (cell.levels[1] == "silu");
    for (size_t level = 0; level < best->levels.size(); ++level)
      EXPECT_NEAR(cell.means[level], Rankings()["means"][best->levels[level]][number].get<double>(), 1e-15);
  }
}

// Without it the subject is a factor of the cells like any other.
TEST(LevelRankingsTest, WhatIsNotNamedIsRanked) {
  const auto rankings = Ask("base");
  ASSERT_TRUE(rankings.ok()) << rankings.status();
  EXPECT_THAT(rankings->cell_factors, ElementsAre("subject", "input", "activation"));
  EXPECT_EQ(rankings->cells.size(), 12u);
  EXPECT_EQ(rankings->blocks, 1);  // of the second replicate a cell is missing
  EXPECT_TRUE(rankings->with_itself.empty());
  EXPECT_TRUE(rankings->pairs[0].rho_within.empty());
}

TEST(LevelRankingsTest, SaysWhatItCannotAnswer) {
  const auto refusal = [](const std::string& question) { return std::string(Ask(question).status().message()); };
  EXPECT_THAT(refusal("bass"), AllOf(HasSubstr("no factor called 'bass'"), HasSubstr("base")));
  EXPECT_THAT(refusal("base | subjects"), HasSubstr("no factor called 'subjects'"));
  EXPECT_THAT(refusal("base, subject"), HasSubstr("name one factor before '|'"));
  EXPECT_THAT(refusal("base | replicate"), HasSubstr("'replicate' is averaged over in any case"));
  EXPECT_THAT(refusal("base | subject, base"), HasSubstr("'base' stands there twice"));
  EXPECT_THAT(refusal("base | subject, input, activation"), HasSubstr("no factor is left"));
  for (const char* question : {"", "|", "base |", "base | subject | input", "`base", "base,"})
    EXPECT_THAT(refusal(question), HasSubstr("such as 'input | output'")) << question;
}

TEST(LevelRankingsTest, WithoutACompleteBlockItSaysSo) {
  stats::DataTableBuilder builder("score", {{"base", {}}, {"input", {}}, {"replicate", {}}});
  for (const auto& [base, input, replicate] :
       std::vector<std::array<std::string, 3>>{{"a", "p", "0"}, {"a", "q", "0"}, {"b", "p", "0"}, {"b", "q", "1"}}) {
    ASSERT_TRUE(builder.AddRow({base, input, replicate}, 1.0).ok());
  }
  const auto rankings = RankingsBetweenLevels(std::move(builder).Build(), "base", "replicate", false, 0.95, false);
  ASSERT_TRUE(rankings.ok()) << rankings.status();
  EXPECT_THAT(LevelRankingsSentence(*rankings), HasSubstr("no block of replicate has all 2 cells on each of them"));
}

// The fixture's inputs are ordered alike whatever the activation is, but for noise.
TEST(LevelRankingsTest, EveryFormatShowsThem) {
  FixtureOptions fixture = Plain();
  fixture.with_failures = false;
  const SweepResults sweep = MakeAdapterSweep(fixture);
  ReportOptions options;
  options.rankings_between = "activation | scale";
  EXPECT_THAT(RenderText(sweep, options).value(),
              AllOf(HasSubstr("Rankings between the levels of activation"), HasSubstr("relu – silu"),
                    HasSubstr("blocks of scale × replicate"), HasSubstr("one replicate with another")));
  EXPECT_THAT(RenderHtml(sweep, options).value(),
              AllOf(HasSubstr("<section id=\"rankings\">"), HasSubstr("relu – silu"), HasSubstr("id=\"level-means\"")));
  const auto json = Json::parse(RenderJson(sweep, options).value())["level_rankings"];
  EXPECT_EQ(json["pairs"].size(), 6u);
  EXPECT_EQ(json["cells"].size(), 20u);
  EXPECT_EQ(json["pairs"][0]["within"].size(), 4u);
  EXPECT_NE(AnalyseSweep(sweep, options)->hash, AnalyseSweep(sweep, {})->hash);
  EXPECT_TRUE(Json::parse(RenderJson(sweep, {}).value())["level_rankings"].is_null());
}

}  // namespace
}  // namespace loupe::analysis::report
