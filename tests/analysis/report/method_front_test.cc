// Of a sweep over methods: the Pareto front of score and costs in every format, and the curves of all methods.
#include <cmath>
#include <fstream>
#include <limits>

#include "analysis/report/pareto_front.h"
#include "analysis/report/report.h"
#include "analysis/report/results_union.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/analysis/report/json_schema.h"
#include "tests/analysis/report/markup.h"
#include "tests/analysis/report/sweep_fixture.h"

namespace loupe::analysis::report {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

struct MethodNumbers {
  std::string name;
  double score, parameters, seconds, bytes;  // a cost of 0 is unknown
};

// Two replicates, a little above and below the score, more so from method to method: means are the scores to rounding.
SweepResults SweepOf(const std::vector<MethodNumbers>& methods) {
  SweepResults sweep;
  sweep.sweep_id = "sweeps/front";
  sweep.state = "COMPLETED";
  sweep.primary_score = "clip_i";
  sweep.replicates = 2;
  sweep.factors = {{kMethodFactor, kMethodFactor, {}}};
  for (const MethodNumbers& method : methods) {
    const auto place = static_cast<int32_t>(sweep.factors[0].levels.size());
    sweep.factors[0].levels.push_back(method.name);
    for (const int32_t replicate : {0, 1}) {
      TrialRecord trial;
      trial.index = static_cast<int64_t>(sweep.trials.size());
      trial.cell_index = place;
      trial.levels = {place};
      trial.replicate = replicate;
      trial.state = TrialState::kSucceeded;
      const double score = method.score + (replicate == 0 ? -0.001 : 0.001) * (1 + place % 3);
      trial.scores = {{"clip_i", score}, {"clip_fid", score}};
      trial.parameters = method.parameters;
      trial.duration_seconds = method.seconds;
      trial.file_bytes = method.bytes;
      sweep.trials.push_back(std::move(trial));
    }
  }
  return sweep;
}

const std::vector<MethodNumbers> kSixMethods = {{"small", 0.70, 100, 5, 400},  {"big", 0.80, 1000, 9, 4000},
                                                {"poor", 0.69, 100, 5, 400},   {"slow", 0.80, 1000, 9.5, 4000},
                                                {"twin", 0.80, 1000, 9, 4000}, {"given", 0.75, 0, 1, 50}};

TEST(ParetoFrontTest, OnlyBeatenRowsAreOffTheFront) {
  EXPECT_THAT(ParetoFront({{1, 5}, {2, 4}, {2, 5}, {3, 3}, {1, 6}}), ElementsAre(true, true, false, true, false));
  EXPECT_THAT(ParetoFront({{-0.8, 3}, {-0.8, 3}, {-0.8, 4}}), ElementsAre(true, true, false));  // ties stay together
  EXPECT_THAT(ParetoFront({{0.1 + 0.2, 3}, {0.3, 4}, {0.3 + 1e-6, 2}}), ElementsAre(true, false, true));
  EXPECT_THAT(ParetoFront({}), IsEmpty());
}

TEST(ParetoFrontTest, RowsThatLackANumberBeatNobody) {
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_THAT(ParetoFront({{0, kNone}, {1, 1}, {2, 1}, {-inf, 0}}),
              ElementsAre(std::nullopt, true, false, std::nullopt));
}

// Of two numbers: a row is on the front when its second is the least of all with that first number, and less than
// that of every row with a smaller first.
TEST(ParetoFrontTest, AgreesWithASweepAlongTheFirst) {
  std::vector<std::vector<double>> rows;
  for (uint32_t i = 0, x = 1; i < 300; ++i) {
    x = x * 1664525 + 1013904223;
    rows.push_back({static_cast<double>((x >> 16) % 40), static_cast<double>((x >> 24) % 40)});
  }
  const auto front = ParetoFront(rows);
  int64_t on = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    bool expected = true;
    for (const auto& other : rows) {
      if (other[0] == rows[i][0]) expected = expected && rows[i][1] <= other[1];
      if (other[0] < rows[i][0]) expected = expected && rows[i][1] < other[1];
    }
    EXPECT_EQ(front[i], expected) << rows[i][0] << ' ' << rows[i][1];
    on += expected ? 1 : 0;
  }
  EXPECT_GT(on, 1);
}

TEST(MethodFrontTest, EveryFormatMarksTheFront) {
  const SweepResults sweep = SweepOf(kSixMethods);
  std::ifstream file("docs/report.schema.json");
  const auto json = nlohmann::json::parse(RenderJson(sweep, {}).value());
  EXPECT_THAT(JsonSchema(nlohmann::json::parse(file)).Violations(json), IsEmpty());
  const auto& methods = json["details"]["methods"];
  EXPECT_EQ(methods["pareto_of"], nlohmann::json({"mean", "parameters", "seconds", "file_bytes"}));
  std::vector<std::string> marks;
  for (const auto& method : methods["methods"]) marks.push_back(method["pareto_front"].dump());
  EXPECT_THAT(marks, ElementsAre("true", "true", "false", "false", "true", "null"));

  const std::string text = RenderText(sweep, {}).value();
  EXPECT_THAT(text, HasSubstr("● Pareto front of mean clip_i, parameters, seconds, file: small, big, twin."));
  EXPECT_THAT(text, AllOf(HasSubstr("400 B  ●\n"), HasSubstr("400 B\n"), HasSubstr("50 B  ?\n")));
  EXPECT_THAT(text, HasSubstr("one of these numbers is missing: given."));

  const auto page = ParseMarkup(RenderHtml(sweep, {}).value());
  marks.clear();
  for (const auto& row : page->ById("methods-means")->TableRows()) marks.push_back(row[1]);
  EXPECT_THAT(marks, ElementsAre("● yes", "● yes", "no", "no", "● yes", "not judged"));

  const std::string csv = RenderCsv(sweep, {.csv_table = "methods"}).value();
  EXPECT_THAT(csv, AllOf(HasSubstr(",pareto_front,note\n"), HasSubstr(",400,400,400,true,\n"),
                         HasSubstr(",400,400,400,false,\n"), HasSubstr(",50,50,50,,\n")));
}

TEST(MethodFrontTest, SmallerScoresCountAsBetter) {
  const std::string text = RenderText(SweepOf(kSixMethods), {.response = "clip_fid"}).value();
  EXPECT_THAT(text, HasSubstr("● Pareto front of mean clip_fid, parameters, seconds, file: poor. No"));
}

TEST(MethodFrontTest, MissingCostsLeaveOutWhatTheyMust) {
  const std::string no_files = RenderText(SweepOf({{"a", 0.7, 10, 5, 0}, {"b", 0.8, 10, 5, 0}}), {}).value();
  EXPECT_THAT(no_files, HasSubstr("● Pareto front of mean clip_i, parameters, seconds: b. No"));
  const std::string none_whole = RenderText(SweepOf({{"a", 0.7, 0, 5, 9}, {"b", 0.8, 10, 5, 0}}), {}).value();
  EXPECT_THAT(none_whole, HasSubstr("No Pareto front of mean clip_i, parameters, seconds, file: no method has all"));
  const SweepResults bare = SweepOf({{"a", 0.7, 0, 0, 0}, {"b", 0.8, 0, 0, 0}});
  EXPECT_THAT(RenderText(bare, {}).value(), Not(HasSubstr("Pareto")));
  EXPECT_THAT(RenderHtml(bare, {}).value(), Not(HasSubstr("Pareto")));
  EXPECT_THAT(RenderCsv(bare, {.csv_table = "methods"}).value(), HasSubstr(",pareto_front,note\n"));
}

void AddCurve(SweepResults& sweep, int64_t trial, std::vector<std::pair<int64_t, double>> points) {
  sweep.curves.push_back({trial, "clip_i", std::move(points)});
}

// Trials 0 and 1 are of the first method, 2 and 3 of the second, and so on.
SweepResults SweepWithCurves(const std::string& first = "a") {
  SweepResults sweep = SweepOf({{first, 0.6, 10, 5, 40}, {"b", 0.5, 9, 5, 40}, {"c", 0.4, 8, 5, 40}});
  AddCurve(sweep, 0, {{0, 0.2}, {10, 0.4}, {20, 0.6}});
  AddCurve(sweep, 1, {{0, 0.4}, {10, 0.6}, {20, kNone}});
  AddCurve(sweep, 2, {{0, 0.1}, {20, 0.5}});
  AddCurve(sweep, 3, {{0, 0.3}, {20, 0.3}});
  AddCurve(sweep, 4, {{20, 0.4}});  // the score after training: no curve
  sweep.curves.push_back({5, "loss", {{0, 1}, {20, 0.5}}});
  sweep.trials[3].stopped_early = true;
  return sweep;
}

std::vector<std::vector<std::string>> ListedMeans(const Element& page) {
  const Element* table = page.ById("method-curves");
  return table == nullptr ? std::vector<std::vector<std::string>>() : table->TableRows();
}

TEST(MethodCurvesTest, LinesAreMeansOverTheTrialsOfAStep) {
  const std::string html = RenderHtml(SweepWithCurves(), {}).value();
  EXPECT_THAT(ListedMeans(*ParseMarkup(html)),
              ElementsAre(ElementsAre("0", "0.3000 (2)", "0.1000 (1)"), ElementsAre("10", "0.5000 (2)", "–"),
                          ElementsAre("20", "0.6000 (1)", "0.5000 (1)")));
  // Steps 0 … 20 on 58 … 578; 0.1 … 0.6 with a margin of 0.03 on 330 … 30.
  EXPECT_THAT(html, HasSubstr("<polyline class=\"bold s0\" points=\"58.0,206.8 318.0,99.6 578.0,46.1\"/>"));
  EXPECT_THAT(html, HasSubstr("<polyline class=\"bold s1\" points=\"58.0,313.9 578.0,99.6\"/>"));
  EXPECT_THAT(html, AllOf(HasSubstr(">a (1 … 2 trials)<"), HasSubstr(">b (1 trial)<"), HasSubstr(" No curve of c."),
                          HasSubstr("<title>a, step 10: 0.5000 (2 trials)</title>")));
  const std::string all = RenderHtml(SweepWithCurves(), {.include_stopped_early = true}).value();
  EXPECT_THAT(ListedMeans(*ParseMarkup(all))[0], ElementsAre("0", "0.3000 (2)", "0.2000 (2)"));
}

TEST(MethodCurvesTest, OnlyWhereMethodsHaveCurves) {
  SweepResults sweep = SweepWithCurves();
  EXPECT_THAT(ListedMeans(*ParseMarkup(RenderHtml(sweep, {.response = "clip_fid"}).value())), IsEmpty());
  for (TrialRecord& trial : sweep.trials) {
    if (trial.index < 4) trial.state = TrialState::kRunning;
  }
  EXPECT_THAT(ListedMeans(*ParseMarkup(RenderHtml(sweep, {}).value())), IsEmpty());
  EXPECT_THAT(ListedMeans(*ParseMarkup(RenderHtml(MakeAdapterSweep({.with_pictures = false}), {}).value())), IsEmpty());
}

TEST(MethodCurvesTest, HostileNamesStayText) {
  const std::string name = "</svg><script>\"&'\x01";
  const auto page = ParseMarkup(RenderHtml(SweepWithCurves(name), {}).value());
  EXPECT_THAT(page->All("script"), IsEmpty());
  EXPECT_THAT(page->ById("curves")->Text(), HasSubstr("</svg><script>\"&'\\x01 (1 … 2 trials)"));
  EXPECT_THAT(ListedMeans(*page), SizeIs(3));
}

TEST(MethodCurvesTest, LongCurvesOfManyMethodsAreBounded) {
  std::vector<MethodNumbers> methods;
  for (int i = 0; i < 50; ++i) methods.push_back({fmt::format("m{}", i), 0.5 + 0.001 * i, 10, 5, 40});
  SweepResults sweep = SweepOf(methods);
  for (int64_t trial = 0; trial < 100; ++trial) {
    std::vector<std::pair<int64_t, double>> points;
    for (int64_t step = 0; step <= 1000; ++step) points.emplace_back(step, 0.3 + 0.0001 * static_cast<double>(step));
    AddCurve(sweep, trial, std::move(points));
  }
  const auto page = ParseMarkup(RenderHtml(sweep, {}).value());
  const auto rows = ListedMeans(*page);
  ASSERT_THAT(rows, SizeIs(40));
  EXPECT_THAT(rows.front(), SizeIs(1 + 42));
  EXPECT_EQ(rows.front()[0], "0");
  EXPECT_EQ(rows.back()[0], "1000");
  const std::string points = page->ById("curves")->All("polyline").front()->Attribute("points");
  EXPECT_EQ(std::count(points.begin(), points.end(), ','), 80);
  EXPECT_THAT(page->ById("curves")->Text(),
              AllOf(HasSubstr("The first 42 of 50 methods."), HasSubstr("m41 (2 trials)")));
}

}  // namespace
}  // namespace loupe::analysis::report
