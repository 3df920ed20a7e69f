// What a reader may ask of a report beyond the F table: a named baseline, another sweep to compare with, several sweeps
// as one design, what the trials could find.
#include <cmath>
#include <fstream>
#include <memory>

#include "analysis/report/anova_format.h"
#include "analysis/report/reached_power.h"
#include "analysis/report/report.h"
#include "analysis/report/results_union.h"
#include "analysis/report/sweep_analysis.h"
#include "analysis/stats/power.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/analysis/report/json_schema.h"
#include "tests/analysis/report/sweep_fixture.h"

namespace loupe::analysis::report {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Json = nlohmann::json;

SweepResults Sweep(int32_t replicates = 2) {
  return MakeAdapterSweep(
      {.replicates = replicates, .with_failures = false, .with_pictures = false, .with_curves = false});
}

// The trials of every second cell, numbered anew, as a sweep of their own.
SweepResults Half(const SweepResults& whole, int64_t parity) {
  SweepResults half = whole;
  half.sweep_id += parity == 0 ? "-even" : "-odd";
  half.trials.clear();
  for (TrialRecord trial : whole.trials) {
    if (trial.cell_index % 2 != parity) continue;
    trial.index = static_cast<int64_t>(half.trials.size());
    trial.cell_index /= 2;
    half.trials.push_back(std::move(trial));
  }
  return half;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(BaselineTest, ContrastsAreDunnetts) {
  AnalysisOptions options;
  options.questions.baseline = {{"a", "low"}};
  const auto analysis = AnalyseFactorial(ThreeCells(), options);
  ASSERT_TRUE(analysis.ok()) << analysis.status();
  ASSERT_TRUE(analysis->details->has_baseline);
  const BaselineContrasts& baseline = analysis->details->baseline;
  EXPECT_TRUE(baseline.from_replicates);
  EXPECT_NEAR(baseline.mean, 1, 1e-12);
  ASSERT_EQ(baseline.contrasts.size(), 2u);
  EXPECT_EQ(baseline.contrasts[0].first, "high");
  EXPECT_NEAR(baseline.contrasts[0].difference, 2, 1e-12);
  // s² = 0.06/6, so the error is 0.1·√(2/3). Dunnett's two-sided 5 % point for 2 comparisons and 6 degrees of freedom
  // is 2.86 (Dunnett 1964, Biometrics 20:482, table II).
  const double error = 0.1 * std::sqrt(2.0 / 3);
  EXPECT_NEAR(baseline.contrasts[0].std_error, error, 1e-12);
  EXPECT_NEAR((baseline.contrasts[0].high - 2) / error, 2.86, 0.005);
}

TEST(BaselineTest, OfASweepWithoutReplicatesComesFromTheModel) {
  ReportOptions options;
  options.baseline = {{"input", "SA_in"}, {"output", "SA_in"}, {"activation", "relu"}, {"scale", "1"}};
  const auto sweep = AnalyseSweep(Sweep(1), options);
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  const ModelDetails& details = *sweep->analysis.details;
  ASSERT_TRUE(details.has_baseline) << details.baseline_reason;
  EXPECT_FALSE(details.baseline.from_replicates);
  EXPECT_EQ(details.baseline.contrasts.size(), 319u);
  EXPECT_THAT(details.baseline.contrasts.front().first, HasSubstr("CA_out, FFN_in"));  // the fixture's best
}

TEST(BaselineTest, MustNameALevelOfEveryFactor) {
  ReportOptions options;
  options.baseline = {{"input", "SA_in"}};
  EXPECT_THAT(Message(RenderText(Sweep(), options).status()), HasSubstr("no level of 'output' is given"));
  options.baseline = {{"input", "SA_inn"}, {"output", "SA_in"}, {"activation", "relu"}, {"scale", "1"}};
  EXPECT_THAT(Message(RenderText(Sweep(), options).status()),
              AllOf(HasSubstr("'SA_inn' is not a level of 'input'"), HasSubstr("CA_out")));
  options.baseline = {{"inptu", "SA_in"}};
  EXPECT_THAT(Message(RenderText(Sweep(), options).status()), HasSubstr("no factor 'inptu'"));
}

TEST(BaselineTest, CellThatIsNotLegalHasNoResultAndTheReportSaysSo) {
  ReportOptions options;
  options.baseline = {{"input", "FFN_in"}, {"output", "SA_in"}, {"activation", "relu"}, {"scale", "1"}};
  const auto text = RenderText(Sweep(), options);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("the cell FFN_in, SA_in, relu, 1 has no result"));
}

TEST(AgreementTest, OfASweepWithItselfIsOne) {
  ReportOptions options;
  options.compare_with = std::make_shared<const SweepResults>(Sweep());
  const auto sweep = AnalyseSweep(Sweep(), options);
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  EXPECT_NEAR(sweep->agreement->spearman.rho, 1, 1e-12);
  EXPECT_EQ(sweep->agreement->spearman.n, 320u);
}

TEST(AgreementTest, OppositeOrderIsMinusOneAndDirectionIsEachResponsesOwn) {
  SweepResults turned = Sweep(), loss = Sweep();
  loss.primary_score = "loss";  // less is better
  for (size_t i = 0; i < turned.trials.size(); ++i) {
    const double score = turned.trials[i].scores.at(turned.primary_score);
    turned.trials[i].scores[turned.primary_score] = -score;
    loss.trials[i].scores = {{"loss", 5 - score}};
  }
  ReportOptions options;
  options.compare_with = std::make_shared<const SweepResults>(turned);
  EXPECT_NEAR(AnalyseSweep(Sweep(), options)->agreement->spearman.rho, -1, 1e-12);
  // The same order under another name and sign.
  options.compare_with = std::make_shared<const SweepResults>(loss);
  const auto same = AnalyseSweep(Sweep(), options);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->agreement->other_response, "loss");
  EXPECT_NEAR(same->agreement->spearman.rho, 1, 1e-12);
  EXPECT_NE(same->hash, AnalyseSweep(Sweep(), {})->hash);
}

TEST(AgreementTest, SweepsWithoutACommonFactorSaySo) {
  SweepResults other = Sweep();
  for (SweepFactor& factor : other.factors) factor.name += "_there";
  ReportOptions options;
  options.compare_with = std::make_shared<const SweepResults>(other);
  EXPECT_THAT(RenderText(Sweep(), options).value(), HasSubstr("varies none of the factors"));
}

TEST(ResultsUnionTest, TwoHalvesGiveTheWholeSweepsNumbers) {
  const SweepResults whole = Sweep();
  const auto united = UniteResults({Half(whole, 0), Half(whole, 1)});
  ASSERT_TRUE(united.ok()) << united.status();
  ASSERT_EQ(united->trials.size(), whole.trials.size());
  const auto expected = AnalyseSweep(whole, {}), got = AnalyseSweep(*united, {});
  ASSERT_TRUE(got.ok()) << got.status();
  for (size_t t = 0; t < expected->analysis.anova.terms.size(); ++t) {
    const stats::AnovaTerm &want = expected->analysis.anova.terms[t], &have = got->analysis.anova.terms[t];
    EXPECT_EQ(have.df, want.df);
    // The rows come in another order, so sums round differently.
    EXPECT_NEAR(have.f / want.f, 1, 1e-10) << want.term;
  }
  EXPECT_THAT(got->analysis.notes, ::testing::Contains(HasSubstr("are those of " + whole.sweep_id + "-odd")));
}

TEST(ResultsUnionTest, LevelsAreMatchedByNameAndNewOnesAdded) {
  const SweepResults whole = Sweep();
  SweepResults odd = Half(whole, 1);
  std::reverse(odd.factors[2].levels.begin(), odd.factors[2].levels.end());
  const auto last = static_cast<int32_t>(odd.factors[2].levels.size()) - 1;
  for (TrialRecord& trial : odd.trials) trial.levels[2] = last - trial.levels[2];
  odd.factors[3].levels.push_back("8");
  for (TrialRecord& trial : odd.trials) {
    if (trial.levels[3] == 3) trial.levels[3] = 4;
  }
  const auto united = UniteResults({Half(whole, 0), odd});
  ASSERT_TRUE(united.ok()) << united.status();
  EXPECT_EQ(united->factors[3].levels.back(), "8");
  const size_t half = whole.trials.size() / 2;
  for (size_t i = 0; i < half; ++i) {
    const TrialRecord &have = united->trials[half + i], &want = odd.trials[i];
    EXPECT_EQ(united->factors[2].levels[static_cast<size_t>(have.levels[2])],
              odd.factors[2].levels[static_cast<size_t>(want.levels[2])]);
    EXPECT_EQ(united->factors[3].levels[static_cast<size_t>(have.levels[3])],
              odd.factors[3].levels[static_cast<size_t>(want.levels[3])]);
  }
}

TEST(ResultsUnionTest, RefusesWhatIsNoOneDesign) {
  const SweepResults whole = Sweep();
  SweepResults odd = Half(whole, 1);
  EXPECT_THAT(Message(UniteResults({whole, odd}).status()),
              HasSubstr("is a cell and replicate that the first has too"));
  SweepResults other = odd;
  other.provenance.seed += 1;
  EXPECT_THAT(Message(UniteResults({Half(whole, 0), other}).status()), HasSubstr("seeds are"));
  other = odd;
  other.replicates = 5;
  EXPECT_THAT(Message(UniteResults({Half(whole, 0), other}).status()), HasSubstr("2 and 5 replicates"));
  other = odd;
  other.provenance.settings["budget.steps"] = "9999";
  EXPECT_THAT(Message(UniteResults({Half(whole, 0), other}).status()), HasSubstr("budget.steps"));
  other = odd;
  other.factors[0].key = "method.elsewhere";
  EXPECT_THAT(Message(UniteResults({Half(whole, 0), other}).status()), HasSubstr("varies 'input'"));
}

TEST(ResultsUnionTest, DifferentVersionsAreNoted) {
  SweepResults odd = Half(Sweep(), 1);
  odd.provenance.versions["loupe"] = "99.0";
  const auto united = UniteResults({Half(Sweep(), 0), odd});
  ASSERT_TRUE(united.ok()) << united.status();
  EXPECT_THAT(united->notes, ::testing::Contains(HasSubstr("99.0")));
}

TEST(ReachedPowerTest, DetectableEffectIsFoundWithTheProbabilityAskedFor) {
  const auto sweep = AnalyseSweep(Sweep(), {});
  const stats::AnovaTable& anova = sweep->analysis.anova;
  const std::vector<ReachedPower> power = ComputeReachedPower(anova);
  ASSERT_EQ(power.size(), 4u);  // the block is no question
  for (const ReachedPower& row : power) {
    for (const stats::AnovaTerm& term : anova.terms) {
      if (term.term != row.term) continue;
      const stats::FTestPlan plan{
          .df = term.df, .residual_df = anova.residual.df, .n = static_cast<double>(anova.sample.used)};
      EXPECT_NEAR(stats::FTestPower(plan, row.detectable_f), 0.8, 1e-6);
      EXPECT_EQ(row.found_f, term.effect.cohens_f);
    }
  }
}

TEST(QuestionsTest, EveryFormatAnswersThem) {
  ReportOptions options;
  options.baseline = {{"input", "SA_in"}, {"output", "SA_in"}, {"activation", "relu"}, {"scale", "1"}};
  options.compare_with = std::make_shared<const SweepResults>(Sweep());
  options.simple_effects = {"input | output"};
  options.contrasts = {"[input=SA_in] - [input=CA_in]", "[input=SA_in] - [input=Res_in]"};
  std::ifstream file("docs/report.schema.json");
  const Json json = Json::parse(RenderJson(Sweep(), options).value());
  EXPECT_THAT(JsonSchema(Json::parse(file)).Violations(json), IsEmpty());
  EXPECT_NEAR(json["agreement"]["spearman"].get<double>(), 1, 1e-12);
  EXPECT_EQ(json["details"]["baseline"]["contrasts"].size(), 319u);
  EXPECT_EQ(json["details"]["importance"]["shares"][0]["factors"], Json::array({"input"}));
  EXPECT_EQ(json["details"]["power"]["terms"].size(), 4u);
  EXPECT_EQ(json["details"]["simple_effects"][0]["effects"].size(), 7u);
  EXPECT_TRUE(json["details"]["contrasts"][0]["estimable"].get<bool>());
  EXPECT_TRUE(json["details"]["contrasts"][1]["estimate"].is_null());
  EXPECT_THAT(json["details"]["contrasts"][1]["reason"].get<std::string>(), HasSubstr("never share a level of output"));
  const std::string text = RenderText(Sweep(), options).value();
  EXPECT_THAT(
      text, AllOf(HasSubstr("Importance (functional ANOVA"), HasSubstr("Cells less the baseline SA_in, SA_in, relu, 1"),
                  HasSubstr("Spearman's ρ"), HasSubstr("min. f"), HasSubstr("23 of 45 pairs are not estimable"),
                  HasSubstr("input within output = FFN_in"), HasSubstr("[input=SA_in] - [input=CA_in]")));
  const std::string html = RenderHtml(Sweep(), options).value();
  EXPECT_THAT(
      html, AllOf(HasSubstr("id=\"importance\""), HasSubstr("id=\"baseline-contrasts\""), HasSubstr("id=\"agreement\""),
                  HasSubstr("id=\"power\""), HasSubstr("id=\"contrasts\""), HasSubstr("Simple effects")));
}

TEST(QuestionsTest, WhatHasOneLevelIsSaidOnce) {
  stats::DataTableBuilder builder("y", {{"a", {"p", "q", "r"}}, {"b", {"x", "y", "z"}}});
  for (const auto& [a, b] :
       {std::pair{"p", "x"}, std::pair{"q", "x"}, std::pair{"r", "x"}, std::pair{"p", "y"}, std::pair{"p", "z"}}) {
    for (const double value : {1.0, 1.5, 2.25})
      EXPECT_TRUE(builder.AddRow({a, b}, value + (*a == 'q') + (*b == 'z')).ok());
  }
  AnalysisOptions options;
  options.anova.formula = "a*b";
  const auto analysis = AnalyseFactorial(std::move(builder).Build(), options);
  ASSERT_TRUE(analysis.ok()) << analysis.status();
  EXPECT_THAT(FormatAnovaText(*analysis),
              AllOf(HasSubstr("a within b = x: F = "),
                    HasSubstr("a: nothing to compare within b = y; b = z: only p occurs there."),
                    HasSubstr("b: nothing to compare within a = q; a = r: only x occurs there."),
                    Not(HasSubstr("can be compared"))));
}

TEST(QuestionsTest, AboutWhatIsNotThereAreRefused) {
  ReportOptions options;
  options.contrasts = {"[input=SA_inn]"};
  EXPECT_THAT(Message(RenderText(Sweep(), options).status()), HasSubstr("'SA_inn' is not a level of 'input'"));
  options.contrasts.clear();
  options.simple_effects = {"input | outptu"};
  EXPECT_THAT(Message(RenderText(Sweep(), options).status()), HasSubstr("outptu"));
}

}  // namespace
}  // namespace loupe::analysis::report
