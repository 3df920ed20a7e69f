// The same tables as sweeps, through every format of a report: alone, compared with each other, put together.
#include <array>
#include <memory>
#include <set>

#include "analysis/report/report.h"
#include "analysis/report/results_union.h"
#include "nlohmann/json.hpp"
#include "tests/analysis/report/degenerate_tables.h"

namespace loupe::analysis::report {
namespace {

constexpr double kLargest = 1e308;

// A missing response is a trial that failed; untuned scores and curves are at the edge too.
SweepResults AsSweep(const stats::DataTable& table) {
  SweepResults sweep;
  sweep.sweep_id = "sweeps/edge";
  sweep.state = "COMPLETED";
  sweep.primary_score = "score";
  const stats::Factor& replicate = table.factors.back();
  sweep.replicates = std::max(1, static_cast<int32_t>(replicate.levels.size()));
  for (size_t f = 0; f + 1 < table.factors.size(); ++f)
    sweep.factors.push_back({table.factors[f].name, "method." + table.factors[f].name, table.factors[f].levels});
  for (size_t row = 0; row < table.rows(); ++row) {
    TrialRecord trial;
    trial.index = static_cast<int64_t>(row);
    trial.cell_index = trial.index;
    for (size_t f = 0; f < sweep.factors.size(); ++f) trial.levels.push_back(table.factors[f].codes[row]);
    trial.replicate = replicate.codes[row];
    trial.state = std::isnan(table.Response(row)) ? TrialState::kFailed : TrialState::kSucceeded;
    if (trial.state == TrialState::kSucceeded)
      trial.scores = {{"score", table.Response(row)}, {"other_loss", kLargest}};
    sweep.trials.push_back(std::move(trial));
  }
  sweep.baseline_scores = {{"score", -kLargest}};
  if (!sweep.trials.empty()) {
    sweep.curves.push_back({0, "loss", {}});
    sweep.curves.push_back({0, "grad", {{1, kLargest}}});
    sweep.curves.push_back(
        {0, "score", {{1, -kLargest}, {2, kLargest}, {2, std::numeric_limits<double>::quiet_NaN()}, {3, 0.0}}});
  }
  return sweep;
}

void ExpectAllFormats(const SweepResults& sweep, const ReportOptions& options) {
  const auto text = RenderText(sweep, options), json = RenderJson(sweep, options), html = RenderHtml(sweep, options);
  ASSERT_EQ(text.ok(), json.ok());
  ASSERT_EQ(text.ok(), html.ok());
  if (!text.ok()) {
    EXPECT_FALSE(text.status().message().empty());
    return;
  }
  EXPECT_TRUE(nlohmann::json::accept(*json));
  for (const char* bad : {" inf ", " inf\n", "−inf", " nan "}) EXPECT_EQ(text->find(bad), std::string::npos) << *text;
  // A coordinate that is no number hides what it belongs to, whatever the browser.
  for (const char* bad : {"=\"nan", "=\"-nan", "=\"inf", "=\"-inf", " nan", "nan,", " inf\""})
    EXPECT_EQ(html->find(bad), std::string::npos) << bad;
  EXPECT_TRUE(RenderCsv(sweep, options).ok());
}

TEST(DegenerateSweepsTest, EveryFormatOfAReportIsMade) {
  for (const DegenerateTable& test : DegenerateTables()) {
    SCOPED_TRACE(test.name);
    const SweepResults sweep = AsSweep(test.table);
    ExpectAllFormats(sweep, {});
    ReportOptions asked;
    asked.terms = "a*b";
    asked.simple_effects = {"a | b"};
    asked.baseline = {{"a", "a0"}, {"b", "b0"}};
    const auto html = RenderHtml(sweep, asked);
    EXPECT_TRUE(html.ok() ? html->ends_with("</html>\n") : !html.status().message().empty());
    ReportOptions other;
    other.response = "other_loss";  // the largest double in every trial
    const auto text = RenderText(sweep, other);
    EXPECT_EQ(text.ok() && text->find(" inf ") != std::string::npos, false);
  }
}

TEST(DegenerateSweepsTest, EachIsComparedWithEach) {
  const std::vector<DegenerateTable> tables = DegenerateTables();
  for (size_t i = 0; i < tables.size(); ++i) {
    for (const size_t j : {(i + 7) % tables.size()}) {
      SCOPED_TRACE(fmt::format("{} with {}", tables[i].name, tables[j].name));
      ReportOptions options;
      options.compare_with = std::make_shared<const SweepResults>(AsSweep(tables[j].table));
      const auto json = RenderJson(AsSweep(tables[i].table), options);
      if (!json.ok()) continue;
      const auto parsed = nlohmann::json::parse(*json)["agreement"];
      EXPECT_NE(parsed["reason"].is_null(), parsed["spearman"].is_null()) << parsed["reason"];
    }
  }
}

TEST(DegenerateSweepsTest, UnitedOnesAreOneDesignOrRefused) {
  for (const DegenerateTable& test : DegenerateTables()) {
    SCOPED_TRACE(test.name);
    const SweepResults whole = AsSweep(test.table);
    std::array<SweepResults, 2> halves = {whole, whole};
    for (size_t half = 0; half < 2; ++half) {
      std::erase_if(halves[half].trials,
                    [&](const TrialRecord& trial) { return trial.index % 2 != static_cast<int64_t>(half); });
    }
    std::set<std::pair<std::vector<int32_t>, int32_t>> places;  // with a factor twice some trials are in the same one
    for (const TrialRecord& trial : whole.trials) places.emplace(trial.levels, trial.replicate);
    const auto united = UniteResults({halves[0], halves[1]});
    ASSERT_EQ(united.ok(), places.size() == whole.trials.size()) << united.status();
    if (!united.ok()) continue;
    EXPECT_EQ(united->trials.size(), whole.trials.size());
    EXPECT_EQ(RenderText(*united, {}).ok(), RenderText(whole, {}).ok());
    EXPECT_EQ(UniteResults({whole, whole}).ok(), whole.trials.empty());
  }
}

}  // namespace
}  // namespace loupe::analysis::report
