// The mixed model against lme4 1.1-31 (variance components) and nlme 3.1-162 (F with containment degrees of freedom):
// reference/mixed_model.R.
#include "analysis/stats/mixed_model.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::stats {
namespace {

TEST(MixedModelTest, VarianceComponentsAndFAgreeWithLme4AndNlme) {
  for (const auto& reference : ReadReferenceJson("mixed_model.json")) {
    SCOPED_TRACE(reference["file"].get<std::string>());
    const DataTable data =
        ReadReferenceTable(reference["file"], reference["response"], reference["factors"], reference["block"]);
    const auto model = FitMixedModel(data, {.formula = reference["formula"],
                                            .ss_type = static_cast<SumOfSquares>(reference["ss_type"].get<int>()),
                                            .block = reference["block"]});
    ASSERT_TRUE(model.ok()) << model.status();
    // Both R optimisers stop at about 1e-6 of the variance ratio.
    EXPECT_LT(RelativeError(model->block_variance, reference["block_variance"]), 2e-5);
    EXPECT_LT(RelativeError(model->residual_variance, reference["residual_variance"]), 2e-5);
    for (const auto& expected : reference["terms"]) {
      SCOPED_TRACE(expected["term"].get<std::string>());
      const auto term = std::find_if(model->terms.begin(), model->terms.end(),
                                     [&](const MixedTerm& t) { return t.term == expected["term"].get<std::string>(); });
      ASSERT_NE(term, model->terms.end());
      EXPECT_EQ(term->df, expected["df"].get<double>());
      EXPECT_EQ(term->denominator_df, expected["den"].get<double>());
      EXPECT_LT(RelativeError(term->f, expected["f"]), 2e-5);
      EXPECT_LT(RelativeError(term->p, expected["p"]), 2e-4);
    }
  }
}

// A second formula: in complete balanced blocks REML is the expected mean squares, and F that of fixed blocks.
TEST(MixedModelTest, BalancedBlocksGiveExpectedMeanSquaresAndTheFixedBlockF) {
  const DataTable data = ReadReferenceTable("npk.csv", "yield", {"N", "P", "K"}, "block");
  const AnovaOptions options{.formula = "N+P+K", .block = "block"};
  const auto reml = FitMixedModel(data, options);
  const auto ems = FitMixedModel(data, options, VarianceMethod::kExpectedMeanSquares);
  const auto fixed = FitAnova(data, options);
  ASSERT_TRUE(reml.ok() && ems.ok() && fixed.ok());
  const double by_hand = (fixed->terms[0].mean_sq - fixed->residual.mean_sq) / 4;  // four plots in a block
  EXPECT_NEAR(ems->block_variance, by_hand, 1e-10);
  EXPECT_NEAR(reml->block_variance, by_hand, 1e-5);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(reml->terms[i].f, fixed->terms[i + 1].f, 1e-5);
    EXPECT_EQ(reml->terms[i].denominator_df, fixed->residual.df);
  }
}

TEST(MixedModelTest, NoVariationBetweenBlocksIsTheBoundaryAndSaysSo) {
  DataTableBuilder builder("y", {{"a", {}}, {"seed", {}}});
  const double y[] = {1, 5, 2, 4, 9, 7};  // block sums 6, 6 … balanced so that block means agree
  for (int seed = 0; seed < 3; ++seed) {
    ASSERT_TRUE(builder.AddRow({"p", std::to_string(seed)}, y[seed]).ok());
    ASSERT_TRUE(builder.AddRow({"q", std::to_string(seed)}, 10 - y[seed]).ok());
  }
  const DataTable data = std::move(builder).Build();
  const auto model = FitMixedModel(data, {.block = "seed"});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->block_variance, 0);
  EXPECT_THAT(model->warnings, ::testing::Contains(::testing::HasSubstr("boundary")));
  EXPECT_FALSE(FitMixedModel(data, {}).ok());
}

}  // namespace
}  // namespace loupe::analysis::stats
