// Each number a report shows is the one that the statistics give for the same trials, in every format.
#include <algorithm>
#include <cmath>
#include <set>

#include "analysis/report/number_format.h"
#include "analysis/report/report.h"
#include "analysis/report/sweep_analysis.h"
#include "analysis/stats/csv_table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/analysis/report/markup.h"
#include "tests/analysis/report/sweep_fixture.h"

namespace loupe::analysis::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

stats::AnovaTable ExpectedAnova(const SweepResults& sweep, const std::string& response = "clip_i") {
  const auto table = ObservationTable(sweep, {.response = response});
  EXPECT_TRUE(table.ok());
  auto anova = stats::FitAnova(*table, {.block = "replicate"});
  EXPECT_TRUE(anova.ok()) << anova.status();
  return *std::move(anova);
}

TEST(SweepJsonTest, TermsAreThoseOfTheStatistics) {
  const SweepResults sweep = MakeAdapterSweep(Plain());
  const Json json = Json::parse(RenderJson(sweep, {}).value());
  const stats::AnovaTable expected = ExpectedAnova(sweep);
  ASSERT_EQ(json["terms"].size(), expected.terms.size());
  for (size_t i = 0; i < expected.terms.size(); ++i) {
    const stats::AnovaTerm& term = expected.terms[i];
    const Json& shown = json["terms"][i];
    EXPECT_EQ(shown["term"], term.term);
    EXPECT_EQ(shown["df"], term.df);
    EXPECT_EQ(shown["sum_sq"], static_cast<double>(term.sum_sq));
    EXPECT_EQ(shown["mean_sq"], static_cast<double>(term.mean_sq));
    EXPECT_EQ(shown["f"], term.f);
    EXPECT_EQ(shown["p"], term.p);
    EXPECT_EQ(shown["effect"]["partial_eta_sq"], term.effect.partial_eta_sq);
    EXPECT_EQ(shown["note"], term.note);
  }
  EXPECT_EQ(json["residual"]["df"], expected.residual.df);
  EXPECT_EQ(json["residual"]["sum_sq"], static_cast<double>(expected.residual.sum_sq));
  EXPECT_EQ(json["residual"]["mean_sq"], static_cast<double>(expected.residual.mean_sq));
  EXPECT_EQ(json["sample"]["used"], 630);
  EXPECT_EQ(json["sample"]["stopped_early"], 2);
  EXPECT_EQ(json["trials"]["quarantined"], 1);
}

TEST(SweepJsonTest, ConfoundedPositionsAreShownAsAliased) {
  const Json json = Json::parse(RenderJson(MakeAdapterSweep(Plain()), {}).value());
  for (const Json& term : json["terms"]) {
    if (term["term"] != "input") continue;
    EXPECT_EQ(term["nominal_df"], 9);
    EXPECT_EQ(term["df"], 7);
    EXPECT_EQ(term["aliased_with"], Json::array({"output"}));
  }
  EXPECT_THAT(json["notes"][0].get<std::string>(),
              HasSubstr("input: 2 of 9 degrees of freedom are aliased with output"));
}

TEST(SweepJsonTest, OneWayIsThePapersFStatistic) {
  const SweepResults sweep = MakeAdapterSweep(Plain());
  const Json json = Json::parse(RenderJson(sweep, {}).value());
  // MSB/MSW by hand for the first factor.
  std::map<int32_t, std::vector<double>> groups;
  for (const TrialRecord& trial : sweep.trials) {
    if (trial.state == TrialState::kSucceeded && !trial.stopped_early)
      groups[trial.levels[0]].push_back(trial.scores.at("clip_i"));
  }
  double n = 0, sum = 0, between = 0, within = 0;
  for (const auto& [level, values] : groups) {
    for (const double value : values) sum += value;
    n += static_cast<double>(values.size());
  }
  for (const auto& [level, values] : groups) {
    double mean = 0;
    for (const double value : values) mean += value / static_cast<double>(values.size());
    between += static_cast<double>(values.size()) * (mean - sum / n) * (mean - sum / n);
    for (const double value : values) within += (value - mean) * (value - mean);
  }
  const double k = static_cast<double>(groups.size());
  EXPECT_EQ(json["one_way"][0]["factor"], "input");
  // Two orders of summation over 630 numbers: eleven digits agree.
  EXPECT_NEAR(json["one_way"][0]["f"].get<double>() / ((between / (k - 1)) / (within / (n - k))), 1.0, 1e-11);
}

TEST(SweepJsonTest, CellsAreRankedFromTheBest) {
  const Json up = Json::parse(RenderJson(MakeAdapterSweep(Plain()), {}).value());
  const Json down = Json::parse(RenderJson(MakeAdapterSweep(Plain()), {.response = "clip_fid"}).value());
  EXPECT_FALSE(up["smaller_is_better"]);
  EXPECT_TRUE(down["smaller_is_better"]);
  for (size_t i = 1; i < up["cells"].size(); ++i) {
    EXPECT_GE(up["cells"][i - 1]["mean"], up["cells"][i]["mean"]);
    EXPECT_LE(down["cells"][i - 1]["mean"], down["cells"][i]["mean"]);
  }
}

TEST(SweepTextTest, AWarningStandsBesideItsScoreAndNoOther) {
  SweepResults sweep = MakeAdapterSweep(Plain());
  sweep.score_warnings["clip_fid"] = "FID from 16 generated and 9 reference pictures is biased upward.";
  EXPECT_THAT(RenderText(sweep, {.response = "clip_fid"}).value(), HasSubstr("clip_fid: FID from 16 generated"));
  EXPECT_THAT(RenderText(sweep, {.response = "clip_i"}).value(), Not(HasSubstr("16 generated")));
}

TEST(SweepCsvTest, AnotherReaderComputesTheSameTable) {
  const SweepResults sweep = MakeAdapterSweep(Plain());
  const std::string csv = RenderCsv(sweep, {}).value();
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), static_cast<long>(sweep.trials.size() + 1));
  const auto table = stats::ReadCsvTable(csv, {.response = "clip_i",
                                               .factors = {"input", "output", "activation", "scale"},
                                               .block = "replicate",
                                               .status_column = ""});
  ASSERT_TRUE(table.ok()) << table.status();
  // The CSV's own reading has the two early-stopped trials in; asked for, the report has them too.
  const auto anova = stats::FitAnova(*table, {.block = "replicate"});
  const Json json = Json::parse(RenderJson(sweep, {.include_stopped_early = true}).value());
  for (size_t i = 0; i < anova->terms.size(); ++i) {
    EXPECT_NEAR(json["terms"][i]["f"].get<double>() / anova->terms[i].f, 1.0, 1e-9) << anova->terms[i].term;
  }
  EXPECT_EQ(json["sample"]["stopped_early_included"], 2);
}

TEST(SweepTextTest, ShowsTheFTableAndWhatIsMissing) {
  const SweepResults sweep = MakeAdapterSweep(Plain());
  const std::string text = RenderText(sweep, {}).value();
  const stats::AnovaTable expected = ExpectedAnova(sweep);
  for (const stats::AnovaTerm& term : expected.terms) {
    EXPECT_THAT(text, HasSubstr(FormatNumber(term.sum_sq)));
    EXPECT_THAT(text, HasSubstr(FormatNumber(term.f)));
  }
  EXPECT_THAT(text, HasSubstr("640 trials: 632 succeeded, 7 failed, 1 quarantined"));
  EXPECT_THAT(text, HasSubstr("7× (first: trial 13) the loss became NaN"));
  size_t longest = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    longest = std::max(longest, DisplayWidth(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  EXPECT_LE(longest, 100u);
}

class SweepHtmlTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    html_ = new std::string(RenderHtml(MakeAdapterSweep(), {}).value());
    page_ = ParseMarkup(*html_).release();
  }
  static void TearDownTestSuite() {
    delete page_;
    delete html_;
  }
  static std::string* html_;
  static Element* page_;
};
std::string* SweepHtmlTest::html_ = nullptr;
Element* SweepHtmlTest::page_ = nullptr;

TEST_F(SweepHtmlTest, TheFTableShowsTheComputedNumbers) {
  const stats::AnovaTable expected = ExpectedAnova(MakeAdapterSweep());
  const auto rows = page_->ById("anova")->TableRows();
  ASSERT_EQ(rows.size(), expected.terms.size() + 2);
  for (size_t i = 0; i < expected.terms.size(); ++i) {
    const stats::AnovaTerm& term = expected.terms[i];
    EXPECT_TRUE(rows[i][0].starts_with(term.term));
    EXPECT_EQ(rows[i][2], FormatNumber(term.sum_sq));
    EXPECT_EQ(rows[i][3], FormatNumber(term.mean_sq));
    EXPECT_EQ(rows[i][4], FormatNumber(term.f));
    EXPECT_EQ(rows[i][5], FormatP(term.p) + std::string(SignificanceStars(term.p)));
    EXPECT_EQ(rows[i][6], FormatNumber(term.effect.partial_eta_sq, 3));
  }
  EXPECT_EQ(rows[1][1], "7 of 9");
  EXPECT_EQ(rows[expected.terms.size()][3], FormatNumber(expected.residual.mean_sq));
}

TEST_F(SweepHtmlTest, TheHeatMapHasTheTwentyLegalPairsInThePapersOrder) {
  const SweepResults sweep = MakeAdapterSweep();
  const auto table = ObservationTable(sweep, {});
  const auto means = stats::ComputeTwoWayMeans(*table, "input", "output");
  ASSERT_TRUE(means.ok());
  EXPECT_EQ(means->column_levels.front(), "SA_in");  // the fixture lists the outputs backwards
  std::multiset<std::string> shown;
  size_t hatched = 0;
  const Element* section = page_->ById("heat-map");
  for (const Element* text : section->All("text")) {
    if (text->Attribute("class") == "m v") shown.insert(text->Text());
  }
  for (const Element* rect : section->All("rect"))
    hatched += rect->Attribute("style").find("url(#hatch") != std::string::npos;
  EXPECT_EQ(shown.size(), 20u);
  EXPECT_EQ(hatched, 50u);
  for (const stats::LevelMean& cell : means->cells) {
    if (cell.n > 0) {
      EXPECT_TRUE(shown.contains(FormatNumber(cell.mean))) << cell.level;
    }
  }
}

TEST_F(SweepHtmlTest, BestCellsAreThoseOfTheStatistics) {
  const auto sweep = AnalyseSweep(MakeAdapterSweep(), {});
  const auto rows = page_->ById("best-cells")->TableRows();
  for (size_t i = 0; i < rows.size(); ++i) {
    const stats::CellMean& cell = sweep->analysis.cells[i];
    for (size_t f = 0; f < cell.levels.size(); ++f) EXPECT_EQ(rows[i][1 + f], cell.levels[f]);
    EXPECT_EQ(rows[i][1 + cell.levels.size() + 1], FormatNumber(cell.mean.mean));
  }
}

TEST_F(SweepHtmlTest, IsSelfContainedAndNeedsNoScript) {
  EXPECT_TRUE(page_->All("script").empty());
  EXPECT_TRUE(page_->All("link").empty());
  EXPECT_THAT(*html_, Not(HasSubstr("@import")));
  EXPECT_THAT(*html_, Not(HasSubstr("url(http")));
  for (const Element* image : page_->All("img"))
    EXPECT_TRUE(image->Attribute("src").starts_with("data:image/png;base64,"));
  for (const Element* link : page_->All("a")) {
    ASSERT_TRUE(link->Attribute("href").starts_with("#"));
    EXPECT_NE(page_->ById(link->Attribute("href").substr(1)), nullptr) << link->Attribute("href");
  }
  std::vector<const Element*> all;
  std::set<std::string> ids;
  for (const char* name : {"section", "table", "p", "pattern"}) page_->Find(name, all);
  for (const Element* element : all) {
    const std::string id = element->Attribute("id");
    if (id.empty()) continue;
    EXPECT_TRUE(ids.insert(id).second) << id;
  }
}

TEST_F(SweepHtmlTest, TextFromUsersIsEscaped) {
  EXPECT_THAT(*html_, HasSubstr("Adapters on cat faces &lt;small&gt;"));
  EXPECT_THAT(*html_, Not(HasSubstr("<small>")));
  EXPECT_THAT(*html_, Not(HasSubstr("<unstable>")));
  EXPECT_THAT(*html_, Not(HasSubstr("<paper>")));
}

TEST_F(SweepHtmlTest, EveryPairHasASampleSheet) {
  const auto grids = page_->ById("samples")->All("table");
  ASSERT_EQ(grids.size(), 17u);  // the best of each pair, then activation × scale
  EXPECT_EQ(grids[0]->All("img").size() + (grids[0]->Text().find("no picture") != std::string::npos), 20u);
}

TEST_F(SweepHtmlTest, TheMethodsParagraphNamesDesignModelMissingAndSeed) {
  const std::string text = page_->ById("methods-text")->Text();
  EXPECT_THAT(text, HasSubstr("320 of the 1120 combinations were planned, each with 2 replicates"));
  EXPECT_THAT(text, HasSubstr("Type II"));
  EXPECT_THAT(text, HasSubstr("n = 630 trials of 640 planned"));
  EXPECT_THAT(text, HasSubstr("8 trials have no result (7 failed, 1 quarantined"));
  EXPECT_THAT(text, HasSubstr("2 trials were stopped early and left out"));
  EXPECT_THAT(text, HasSubstr("20240229"));
}

TEST_F(SweepHtmlTest, NoNumberIsShownAsNan) {
  EXPECT_THAT(*html_, Not(HasSubstr("\"nan")));
  EXPECT_THAT(*html_, Not(HasSubstr(">nan")));
  EXPECT_THAT(*html_, Not(HasSubstr("inf\"")));
}

TEST(SweepReportTest, TheSameInputGivesTheSameBytes) {
  FixtureOptions options;
  options.replicates = 1;
  EXPECT_EQ(RenderHtml(MakeAdapterSweep(options), {}).value(), RenderHtml(MakeAdapterSweep(options), {}).value());
  EXPECT_EQ(RenderJson(MakeAdapterSweep(options), {}).value(), RenderJson(MakeAdapterSweep(options), {}).value());
}

TEST(SweepReportTest, TheHashFollowsTheDataAndTheQuestionAndNothingElse) {
  const SweepResults sweep = MakeAdapterSweep(Plain());
  const std::string hash = SnapshotHash(sweep, {});
  SweepResults renamed = sweep;
  renamed.display_name = "other";
  EXPECT_EQ(SnapshotHash(renamed, {}), hash);
  SweepResults changed = sweep;
  changed.trials[5].scores["clip_i"] += 1e-15;
  EXPECT_NE(SnapshotHash(changed, {}), hash);
  SweepResults failed = sweep;
  failed.trials[5].state = TrialState::kFailed;
  EXPECT_NE(SnapshotHash(failed, {}), hash);
  EXPECT_NE(SnapshotHash(sweep, {.ss_type = stats::SumOfSquares::kType1}), hash);
  EXPECT_NE(SnapshotHash(sweep, {.response = "clip_t"}), hash);
}

TEST(SweepReportTest, ASweepWithoutResultsSaysSoInEveryFormat) {
  for (const int64_t finished : {0, 1, 2, 3}) {
    SCOPED_TRACE(finished);
    const SweepResults sweep = MakeUnfinishedSweep(finished);
    const auto html = RenderHtml(sweep, {});
    ASSERT_TRUE(html.ok()) << html.status();
    EXPECT_NO_THROW(ParseMarkup(*html));
    EXPECT_THAT(*html, HasSubstr("No F table yet"));
    EXPECT_THAT(RenderText(sweep, {}).value(), HasSubstr("No F table yet"));
    const Json json = Json::parse(RenderJson(sweep, {}).value());
    EXPECT_TRUE(json["terms"].empty());
    EXPECT_TRUE(json["residual"].is_null());
    EXPECT_FALSE(json["problem"].get<std::string>().empty());
    EXPECT_EQ(json["trials"]["running"], 4);
  }
}

TEST(SweepReportTest, AScoreThatNoTrialHasIsAnErrorThatListsTheScores) {
  const auto status = RenderText(MakeAdapterSweep(Plain()), {.response = "clipi"}).status();
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("no trial has a score named 'clipi'; there are: clip_fid, clip_i, clip_kid, clip_t"));
}

TEST(SweepReportTest, ABadFormulaOrLevelIsAnError) {
  SweepResults sweep = MakeAdapterSweep(Plain());
  EXPECT_FALSE(RenderHtml(sweep, {.terms = "input + outptu"}).ok());
  sweep.trials[3].levels[0] = 77;
  EXPECT_THAT(std::string(RenderCsv(sweep, {}).status().message()),
              HasSubstr("trial 3 has level 77 of factor 'input'"));
}

TEST(SweepReportTest, PicturesStopAtTheBudgetAndBrokenOnesAreSaid) {
  FixtureOptions options = Plain();
  options.replicates = 1;
  SweepResults sweep = MakeAdapterSweep(options);
  sweep.load_sample_picture = [](int64_t) -> absl::StatusOr<std::string> { return MakePng(8, 1); };
  const int64_t size = static_cast<int64_t>(MakePng(8, 1).size());
  const std::string html = RenderHtml(sweep, {.max_picture_bytes = 3 * size + 1}).value();
  EXPECT_EQ(ParseMarkup(html)->All("img").size(), 3u);
  EXPECT_THAT(html, HasSubstr("left out"));
  sweep.load_sample_picture = [](int64_t) -> absl::StatusOr<std::string> { return "GIF89a"; };
  EXPECT_THAT(RenderHtml(sweep, {}).value(), HasSubstr("unreadable picture"));
}

TEST(ScoreNamesTest, DistancesAndLossesAreBetterWhenSmaller) {
  for (const char* name : {"fid", "clip_fid", "clip_kid", "clip_kid_base", "clip_kid_sd", "loss", "validation_loss",
                           "clip_pres", "dino_pres"}) {
    EXPECT_TRUE(SmallerIsBetter(name)) << name;
  }
  for (const char* name : {"clip_i", "clip_t", "dino_i", "dino_div", "clip_div", "precision", "recall"})
    EXPECT_FALSE(SmallerIsBetter(name)) << name;
}

}  // namespace
}  // namespace loupe::analysis::report
