// Factors that exist for some methods only, against R's lm and emmeans (reference/nested.R), and what must hold of
// them.
#include <algorithm>
#include <cmath>

#include "analysis/stats/anova.h"
#include "analysis/stats/comparisons.h"
#include "analysis/stats/contrasts.h"
#include "analysis/stats/nesting.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::stats {
namespace {

using Json = nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

DataTable Nested(const Json& reference) {
  const std::string block = reference["block"];
  const DataTable table = ReadReferenceTable(reference["file"], "y", reference["factors"], block);
  return NestFactors(table, "method", block).value();
}

TEST(NestedAnovaTest, AgreesWithNestedModelsInR) {
  for (const Json& reference : ReadReferenceJson("nested.json")) {
    SCOPED_TRACE(reference["name"].get<std::string>());
    const DataTable table = Nested(reference);
    const auto anova = FitAnova(table, {.formula = reference["formula"], .block = reference["block"]});
    ASSERT_TRUE(anova.ok()) << anova.status();
    EXPECT_EQ(anova->residual.df, reference["residual_df"].get<double>());
    EXPECT_LT(RelativeError(static_cast<double>(anova->residual.mean_sq), reference["residual_mean_sq"]), 1e-9);
    for (const Json& expected : reference["terms"]) {
      SCOPED_TRACE(expected["term"].get<std::string>());
      const std::string name = expected["term"] == "method:task" ? "task:method" : expected["term"];
      const auto term = std::find_if(anova->terms.begin(), anova->terms.end(),
                                     [&](const AnovaTerm& other) { return other.term == name; });
      ASSERT_NE(term, anova->terms.end());
      EXPECT_EQ(term->df, expected["df"].get<double>());
      EXPECT_LT(RelativeError(static_cast<double>(term->sum_sq), expected["sum_sq"]), 1e-9);
      EXPECT_LT(RelativeError(term->f, expected["f"]), 1e-9);
      EXPECT_LT(RelativeError(term->p, expected["p"]), 1e-9);
    }
  }
}

TEST(NestedAnovaTest, MeansPerMethodAgreeWithR) {
  for (const Json& reference : ReadReferenceJson("nested.json")) {
    SCOPED_TRACE(reference["name"].get<std::string>());
    const DataTable table = Nested(reference);
    const auto model = LinearModel::Fit(table, {.formula = reference["formula"], .block = reference["block"]});
    ASSERT_TRUE(model.ok()) << model.status();
    const auto means = ComputeMarginalMeans(**model, {"method"});
    ASSERT_TRUE(means.ok()) << means.status();
    std::vector<Eigen::RowVectorXd> combinations;
    for (const MarginalMean& mean : means->means) {
      const auto expected = std::find_if(reference["means"].begin(), reference["means"].end(),
                                         [&](const Json& other) { return other["level"] == mean.levels[0]; });
      ASSERT_NE(expected, reference["means"].end());
      EXPECT_TRUE(mean.estimable) << mean.reason;
      EXPECT_LT(RelativeError(mean.mean, (*expected)["value"]), 1e-11);
      EXPECT_LT(RelativeError(mean.std_error, (*expected)["std_error"]), 1e-9);
      combinations.push_back(mean.combination);
    }
    const JointTest equal = TestEqualMeans(**model, combinations);
    EXPECT_EQ(equal.df, reference["equal_df"].get<double>());
    EXPECT_LT(RelativeError(equal.f, reference["equal_f"]), 1e-8);

    const auto against = CompareToBaseline(**model, *means, {reference["baseline"][0]["second"]});
    ASSERT_TRUE(against.ok()) << against.status();
    for (const Json& expected : reference["baseline"]) {
      const auto pair = std::find_if(against->begin(), against->end(),
                                     [&](const Comparison& other) { return expected["first"] == other.first; });
      ASSERT_NE(pair, against->end());
      EXPECT_NEAR(pair->difference, expected["value"], 1e-12);
      EXPECT_LT(RelativeError(pair->std_error, expected["std_error"]), 1e-9);
      EXPECT_LT(RelativeError(pair->p, expected["p"]), 1e-8);
      EXPECT_LT(RelativeError(pair->p_holm, expected["p_holm"]), 1e-8);
      // The reference integrates at random, to about 1e-6.
      if (!std::isnan(pair->p_dunnett)) {
        EXPECT_NEAR(pair->p_dunnett, expected["p_dunnett"], 5e-6);
      }
    }
  }
}

TEST(NestedAnovaTest, MeansOfAMethodsOwnFactorsAgreeWithR) {
  for (const Json& reference : ReadReferenceJson("nested.json")) {
    SCOPED_TRACE(reference["name"].get<std::string>());
    const DataTable table = Nested(reference);
    const auto model = LinearModel::Fit(table, {.formula = reference["formula"], .block = reference["block"]});
    ASSERT_TRUE(model.ok()) << model.status();
    for (const Json& expected : reference["own_means"]) {
      SCOPED_TRACE(expected.dump());
      const auto means = ComputeMarginalMeans(**model, {expected["factor"]});
      ASSERT_TRUE(means.ok()) << means.status();
      std::vector<std::string> levels;
      for (const MarginalMean& mean : means->means) levels.push_back(mean.levels[0]);
      EXPECT_EQ(std::count(levels.begin(), levels.end(), kAbsentLevel), 0);
      const auto at = std::find(levels.begin(), levels.end(), expected["level"].get<std::string>()) - levels.begin();
      ASSERT_LT(at, static_cast<std::ptrdiff_t>(levels.size()));
      const MarginalMean& mean = means->means[static_cast<size_t>(at)];
      EXPECT_LT(RelativeError(mean.mean, expected["value"]), 1e-11);
      EXPECT_LT(RelativeError(mean.std_error, expected["std_error"]), 1e-9);
    }
  }
}

// Three methods without factors in common; "lora" has ranks, "adapter" scales.
DataTable Small(const std::vector<std::vector<std::string>>& rows) {
  DataTableBuilder builder("y", {{"method", {}}, {"rank", {}}, {"scale", {}}, {"task", {}}});
  double y = 0;
  for (const auto& row : rows) {
    y += 1;
    EXPECT_TRUE(builder.AddRow(row, std::sin(y * y) + y / 9).ok());
  }
  return NestFactors(std::move(builder).Build(), "method", "").value();
}

TEST(NestedAnovaTest, AMethodAloneIsAnOrdinaryDesign) {
  const DataTable table = Small({{"lora", "4", "", "cat"},
                                 {"lora", "8", "", "cat"},
                                 {"lora", "4", "", "dog"},
                                 {"lora", "8", "", "dog"},
                                 {"lora", "8", "", "dog"}});
  const auto anova = FitAnova(table, {.drop_single_level_factors = true});
  ASSERT_TRUE(anova.ok()) << anova.status();
  ASSERT_EQ(anova->terms.size(), 2u);
  EXPECT_EQ(anova->terms[0].term, "rank");
  EXPECT_EQ(anova->terms[1].term, "task");
}

TEST(NestedAnovaTest, FactorsThatNeverMeetHaveNoInteraction) {
  DataTable table = Small({{"lora", "4", "", "cat"},
                           {"lora", "8", "", "cat"},
                           {"lora", "4", "", "dog"},
                           {"lora", "8", "", "dog"},
                           {"adapter", "", "1", "cat"},
                           {"adapter", "", "2", "dog"},
                           {"adapter", "", "2", "cat"},
                           {"full", "", "", "cat"},
                           {"full", "", "", "dog"},
                           {"full", "", "", "dog"}});
  EXPECT_EQ(table.factors[1].nested_in, "method");
  EXPECT_EQ(table.factors[1].nested_level, "lora");
  EXPECT_THAT(table.factors[1].levels, ElementsAre("4", "8", kAbsentLevel));
  EXPECT_THAT(table.factors[3].nested_in, IsEmpty());
  const auto anova = FitAnova(table, {.formula = "rank*scale + task"});
  ASSERT_TRUE(anova.ok()) << anova.status();
  EXPECT_THAT(anova->warnings, Contains(HasSubstr("rank:scale was left out of the model: no trial")));
  EXPECT_EQ(anova->formula, "method + task + rank + scale");
  EXPECT_EQ(anova->terms[2].within, "lora");
  EXPECT_EQ(anova->terms[2].df, 1);
  EXPECT_EQ(anova->cells_possible, (2 + 2 + 1) * 2.0);
}

TEST(NestedAnovaTest, AnInteractionBringsItsMarginsWithTheMethod) {
  const DataTable table = Small({{"lora", "4", "", "cat"},
                                 {"lora", "8", "", "cat"},
                                 {"lora", "4", "", "dog"},
                                 {"lora", "8", "", "dog"},
                                 {"lora", "8", "", "dog"},
                                 {"full", "", "", "cat"},
                                 {"full", "", "", "dog"},
                                 {"full", "", "", "dog"}});
  const auto anova = FitAnova(table, {.formula = "rank*task"});
  ASSERT_TRUE(anova.ok()) << anova.status();
  EXPECT_EQ(anova->formula, "method + task + rank + method:task + rank:task");
  for (const AnovaTerm& term : anova->terms) EXPECT_EQ(term.df, 1) << term.term;
}

// Rates that only one method was run with: what the method does and what the rate does cannot be told apart.
TEST(NestedAnovaTest, MethodsThatShareNoRateAreNotCompared) {
  const DataTable table = Small({{"lora", "4", "", "1e-4"},
                                 {"lora", "8", "", "1e-4"},
                                 {"lora", "4", "", "2e-4"},
                                 {"lora", "8", "", "2e-4"},
                                 {"full", "", "", "1e-6"},
                                 {"full", "", "", "1e-6"},
                                 {"full", "", "", "2e-6"}});
  const auto model = LinearModel::Fit(table, {.formula = "method + rank + task"});
  ASSERT_TRUE(model.ok()) << model.status();
  const auto means = ComputeMarginalMeans(**model, {"method"});
  ASSERT_TRUE(means.ok());
  const std::vector<Comparison> pairs = CompareAllPairs(**model, *means);
  ASSERT_EQ(pairs.size(), 1u);
  EXPECT_FALSE(pairs[0].estimable);
  EXPECT_THAT(pairs[0].reason, HasSubstr("never share a level of task"));
  // Ranks within LoRA are compared all the same.
  const auto ranks = ComputeMarginalMeans(**model, {"rank"});
  EXPECT_TRUE(CompareAllPairs(**model, *ranks)[0].estimable);
}

TEST(NestedAnovaTest, AFactorOfTwoMethodsIsOneForEach) {
  const DataTable table = Small({{"lora", "4", "1", "cat"},
                                 {"lora", "8", "2", "dog"},
                                 {"loha", "4", "1", "cat"},
                                 {"loha", "16", "2", "dog"},
                                 {"full", "", "", "cat"}});
  ASSERT_EQ(table.factors.size(), 6u);
  EXPECT_EQ(table.factors[1].name, "rank in lora");
  EXPECT_THAT(table.factors[2].levels, ElementsAre("4", "16", kAbsentLevel));
  EXPECT_EQ(table.factors[4].name, "scale in loha");
  EXPECT_FALSE(HasNestedFactors(WithoutAbsentLevels(table)));
}

TEST(NestedAnovaTest, ContrastsWithinAMethodAndWhatCannotBe) {
  const Json reference = ReadReferenceJson("nested.json")[0];
  const DataTable table = Nested(reference);
  const auto model = LinearModel::Fit(table, {});
  ASSERT_TRUE(model.ok());
  const auto contrasts = EvaluateContrasts(**model, {"[rank=16] - [rank=4]", "[method=lora, rank=64] - [method=full]"});
  ASSERT_TRUE(contrasts.ok()) << contrasts.status();
  for (const Json& expected : reference["own_means"]) {
    if (expected["level"] == "16") {
      EXPECT_NEAR((*contrasts)[0].estimate, expected["less_first"], 1e-12);
      EXPECT_LT(RelativeError((*contrasts)[0].std_error, expected["less_first_error"]), 1e-9);
    }
  }
  EXPECT_TRUE((*contrasts)[1].estimable);
  EXPECT_THAT(std::string(EvaluateContrasts(**model, {"[method=full, rank=4]"}).status().message()),
              HasSubstr("no trial can have method = full, rank = 4 together"));
}

}  // namespace
}  // namespace loupe::analysis::stats
