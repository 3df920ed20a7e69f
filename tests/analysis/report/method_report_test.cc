// The report of a sweep over methods, each with factors of its own, in every format.
#include <cmath>
#include <fstream>

#include "analysis/report/anova_format.h"
#include "analysis/report/report.h"
#include "analysis/report/results_union.h"
#include "analysis/report/sweep_analysis.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/analysis/report/json_schema.h"
#include "tests/analysis/report/markup.h"

namespace loupe::analysis::report {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Json = nlohmann::json;

// adapter × activation (2), lora × rank (3) × targets (2), full; crossed with two tasks; LoRA is better by 0.1 at rank
// 16, full by 0.05, and the adapter's silu by 0.02.
SweepResults MethodSweep(int32_t replicates = 2) {
  SweepResults sweep;
  sweep.sweep_id = "sweeps/methods";
  sweep.state = "COMPLETED";
  sweep.primary_score = "clip_i";
  sweep.replicates = replicates;
  sweep.factors = {{"method", "method", {"adapter", "lora", "full"}},
                   {"activation", "method.activation", {"relu", "silu"}, "adapter"},
                   {"rank", "method.rank", {"4", "16", "64"}, "lora"},
                   {"targets", "method.targets", {"attention", "all"}, "lora"},
                   {"task", "task.kind", {"cat", "dog"}}};
  std::vector<std::vector<int32_t>> cells;
  for (const int32_t task : {0, 1}) {
    for (const int32_t activation : {0, 1}) cells.push_back({0, activation, -1, -1, task});
    for (const int32_t rank : {0, 1, 2}) {
      for (const int32_t targets : {0, 1}) cells.push_back({1, -1, rank, targets, task});
    }
    cells.push_back({2, -1, -1, -1, task});
  }
  for (int32_t r = 0; r < replicates; ++r) {
    for (size_t c = 0; c < cells.size(); ++c) {
      TrialRecord trial;
      trial.index = static_cast<int64_t>(sweep.trials.size());
      trial.cell_index = static_cast<int64_t>(c);
      trial.levels = cells[c];
      trial.replicate = r;
      trial.state = TrialState::kSucceeded;
      const double noise = 0.004 * std::sin(7.0 * static_cast<double>(trial.index * trial.index) + 1);
      const double effect = cells[c][0] == 0   ? 0.02 * cells[c][1]
                            : cells[c][0] == 1 ? (cells[c][2] == 1 ? 0.1 : 0.03)
                                               : 0.05;
      trial.scores = {{"clip_i", 0.7 + effect + 0.01 * cells[c][4] + 0.003 * r + noise}};
      trial.duration_seconds = 10 + 2 * cells[c][0];
      trial.parameters = cells[c][0] == 1 ? 1000.0 * (1 << (2 * cells[c][2])) : 5000;
      trial.file_bytes = 4 * trial.parameters;
      sweep.trials.push_back(std::move(trial));
    }
  }
  return sweep;
}

TEST(MethodReportTest, MethodEffectAndOwnFactorsAreTested) {
  const auto sweep = AnalyseSweep(MethodSweep(), {});
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  const stats::AnovaTable& anova = sweep->analysis.anova;
  EXPECT_EQ(anova.formula, "method + task + activation + rank + targets");
  const auto of = [&](const std::string& name) {
    for (const stats::AnovaTerm& term : anova.terms) {
      if (term.term == name) return term;
    }
    return stats::AnovaTerm{};
  };
  EXPECT_EQ(of("method").df, 2);
  EXPECT_EQ(of("rank").df, 2);
  EXPECT_EQ(of("rank").within, "lora");
  EXPECT_LT(of("rank").p, 1e-6);
  EXPECT_GT(of("targets").p, 0.01);
  EXPECT_EQ(of("activation").within, "adapter");
  EXPECT_EQ(anova.residual.df, 36 - 1 - 1 - 2 - 1 - 1 - 2 - 1);
  EXPECT_EQ(anova.block, "replicate");
}

TEST(MethodReportTest, EveryFormatComparesTheMethods) {
  const SweepResults sweep = MethodSweep();
  ReportOptions options;
  options.baseline_method = "full";
  options.contrasts = {"[rank=16] - [rank=4]"};
  std::ifstream file("docs/report.schema.json");
  const Json json = Json::parse(RenderJson(sweep, options).value());
  EXPECT_THAT(JsonSchema(Json::parse(file)).Violations(json), IsEmpty());
  const Json& methods = json["details"]["methods"];
  EXPECT_EQ(methods["baseline"], "full");
  EXPECT_EQ(methods["methods"][1]["settings"], 6);
  EXPECT_EQ(methods["methods"][1]["trials"], 24);
  EXPECT_EQ(methods["methods"][1]["best"]["levels"]["rank"], "16");
  EXPECT_TRUE(methods["methods"][2]["best"].is_null());
  EXPECT_NEAR(methods["methods"][1]["mean"], 0.7 + (0.1 + 0.03 + 0.03) / 3 + 0.005 + 0.0015, 0.003);
  EXPECT_NEAR(methods["methods"][1]["costs"]["parameters"]["mean"], 7000, 1e-9);
  EXPECT_EQ(methods["methods"][1]["costs"]["parameters"]["high"], 16000);
  EXPECT_EQ(methods["methods"][2]["costs"]["seconds"]["mean"], 14);
  EXPECT_EQ(methods["with_baseline"].size(), 2u);
  EXPECT_LT(methods["equal"]["p"], 1e-6);
  EXPECT_NEAR(json["details"]["contrasts"][0]["estimate"], 0.07, 0.005);
  EXPECT_EQ(json["details"]["marginal_means"]["rank"].size(), 3u);

  const std::string text = RenderText(sweep, options).value();
  EXPECT_THAT(text, AllOf(HasSubstr("rank in lora"), HasSubstr("Best of lora: rank 16, targets"),
                          HasSubstr("All these means equal: F = "), HasSubstr("less full"), HasSubstr("28.0 kB"),
                          HasSubstr("full has one setting here")));
  const std::string html = RenderHtml(sweep, options).value();
  EXPECT_THAT(html, AllOf(HasSubstr("id=\"method-comparison\""), HasSubstr("id=\"methods-baseline\""),
                          HasSubstr("<span class=\"soft\">in lora</span>"), HasSubstr("settings")));
  options.csv_table = "methods";
  EXPECT_THAT(RenderCsv(sweep, options).value(), AllOf(HasSubstr("method,trials,settings,mean,"),
                                                       HasSubstr("parameters_mean"), HasSubstr("\nlora,24,6,")));
  options.csv_table = "methods-baseline";
  EXPECT_THAT(RenderCsv(sweep, options).value(), HasSubstr("\nlora,full,"));
  options.csv_table.clear();
  EXPECT_THAT(RenderCsv(sweep, options).value(), HasSubstr("\n0,0,0,succeeded,false,adapter,relu,,,cat,"));
}

// LoRA of rank 16 (4,000 parameters) is near the adapter's and full's 5,000.
TEST(MethodReportTest, EveryFormatComparesAtEqualParameters) {
  const SweepResults sweep = MethodSweep();
  ReportOptions options;
  options.equal_parameters = {.parameters = 4800, .tolerance = 0.2};
  std::ifstream file("docs/report.schema.json");
  const Json json = Json::parse(RenderJson(sweep, options).value());
  EXPECT_THAT(JsonSchema(Json::parse(file)).Violations(json), IsEmpty());
  const Json& equal = json["details"]["methods"]["at_equal_parameters"];
  EXPECT_EQ(equal["methods"][1]["settings"], Json::array({"rank 16, targets attention", "rank 16, targets all"}));
  EXPECT_NEAR(equal["methods"][1]["mean"], 0.8 + 0.005 + 0.0015, 0.003);
  EXPECT_NEAR(equal["with_baseline"][0]["difference"], 0.1 - 0.01, 0.005);
  EXPECT_THAT(RenderText(sweep, options).value(),
              AllOf(HasSubstr("Methods at 4800 trained parameters, give or take 20 %"),
                    HasSubstr("lora: rank 16, targets attention; rank 16, targets all.")));
  EXPECT_THAT(RenderHtml(sweep, options).value(),
              AllOf(HasSubstr("id=\"methods-equal\""), HasSubstr("id=\"methods-equal-baseline\"")));
  options.csv_table = "equal-parameters";
  EXPECT_THAT(RenderCsv(sweep, options).value(),
              HasSubstr("\nlora,\"rank 16, targets attention; rank 16, targets all\",4000,4000,0.8"));

  options = {.equal_parameters = {.parameters = -1}};
  EXPECT_THAT(std::string(RenderText(sweep, options).status().message()), HasSubstr("expected a number above 0"));
  SweepResults plain = MethodSweep();
  plain.factors[0].key = "method.kind";
  options = {.equal_parameters = {.parameters = 4800}};
  EXPECT_THAT(std::string(RenderText(plain, options).status().message()), HasSubstr("compares no methods"));
}

TEST(MethodReportTest, UnknownBaselineIsNamed) {
  ReportOptions options;
  options.baseline_method = "lroa";
  const auto text = RenderText(MethodSweep(), options);
  EXPECT_THAT(std::string(text.status().message()), AllOf(HasSubstr("lroa"), HasSubstr("lora")));
}

TEST(MethodReportTest, RunningSweepsComparesWhatThereIs) {
  SweepResults sweep = MethodSweep();
  for (TrialRecord& trial : sweep.trials) {
    if (trial.levels[0] == 2) trial.state = TrialState::kQueued;
  }
  const std::string text = RenderText(sweep, {}).value();
  EXPECT_THAT(text, AllOf(HasSubstr("less adapter"), HasSubstr("rank in lora")));
  for (TrialRecord& trial : sweep.trials) {
    if (trial.levels[0] != 1) trial.state = TrialState::kQueued;
  }
  const auto alone = AnalyseSweep(sweep, {});
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_EQ(alone->analysis.problem, "");
  EXPECT_EQ(alone->analysis.anova.formula, "rank + targets + task");
  EXPECT_FALSE(alone->analysis.details->methods.has_value());
  for (TrialRecord& trial : sweep.trials) trial.state = TrialState::kQueued;
  EXPECT_THAT(RenderText(sweep, {}).value(), HasSubstr("No F table yet"));
  EXPECT_TRUE(RenderHtml(sweep, {}).ok());
}

// LoRA was run with one task and the others with the other one: what the method does and what the task does are one.
TEST(MethodReportTest, SaysWhatCannotBeCompared) {
  SweepResults sweep = MethodSweep();
  std::erase_if(sweep.trials,
                [](const TrialRecord& trial) { return (trial.levels[0] == 1) != (trial.levels[4] == 1); });
  const std::string text = RenderText(sweep, {}).value();
  EXPECT_THAT(text, AllOf(HasSubstr("lora cannot be compared with adapter"), HasSubstr("never share a level of task")));
  const auto analysis = AnalyseSweep(sweep, {});
  EXPECT_TRUE(analysis->analysis.details->methods->with_baseline[1].estimable);  // full
}

TEST(MethodReportTest, HalvesUnitedAreTheWhole) {
  const SweepResults whole = MethodSweep();
  SweepResults even = whole, odd = whole;
  std::erase_if(even.trials, [](const TrialRecord& trial) { return trial.cell_index % 2 != 0; });
  std::erase_if(odd.trials, [](const TrialRecord& trial) { return trial.cell_index % 2 == 0; });
  const auto united = UniteResults({even, odd});
  ASSERT_TRUE(united.ok()) << united.status();
  const auto expected = AnalyseSweep(whole, {}), got = AnalyseSweep(*united, {});
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_NEAR(got->analysis.anova.terms[1].f, expected->analysis.anova.terms[1].f,
              1e-9 * expected->analysis.anova.terms[1].f);
}

TEST(MethodReportTest, LevelThatNoFactorHasIsRefused) {
  SweepResults sweep = MethodSweep();
  sweep.trials[0].levels[4] = kNoSuchFactor;
  EXPECT_FALSE(RenderText(sweep, {}).ok());
}

// Two subjects are two untuned scores, and their mean is nobody's.
TEST(UntunedBaseTest, TheFactorThatChangesItIsNamed) {
  SweepResults sweep = MethodSweep();
  sweep.baseline_scores = {{"clip_i", 0.35}};
  const auto sentence = [&] {
    const auto text = RenderText(sweep, {});
    return text.ok() ? text->substr(text->find("The untuned"),
                                    text->find('\n', text->find("The untuned")) - text->find("The untuned"))
                     : text.status().ToString();
  };
  EXPECT_EQ(sentence(), "The untuned base has clip_i = 0.3500.");
  for (TrialRecord& trial : sweep.trials) trial.scores["clip_i_base"] = 0.35 + 0.01 * trial.replicate;
  EXPECT_EQ(sentence(), "The untuned base has clip_i = 0.3500.") << "replicates differ by their noise alone";
  for (TrialRecord& trial : sweep.trials)
    trial.scores["clip_i_base"] = (trial.levels[4] == 0 ? 0.2 : 0.5) + 0.01 * trial.replicate;
  EXPECT_EQ(sentence(), "The untuned base has clip_i = 0.2050 (task cat), 0.5050 (dog).");
  sweep.trials[0].scores["clip_i_base"] = 0.9;
  EXPECT_EQ(sentence(), "The untuned base has clip_i = 0.3500 on average, not the same for all cells.");
}

}  // namespace
}  // namespace loupe::analysis::report
