// FitAnova against R 4.2.2 (stats::anova, car::Anova II and III, nested lm fits): numbers in reference/anova.json, made
// by reference/anova.R from the CSV files beside it.
#include "analysis/stats/anova.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::stats {
namespace {

// R prints 15 digits and forms sums of squares from differences in some of these; 1e-9 leaves room for its rounding.
constexpr double kTolerance = 1e-9;

TEST(AnovaReferenceTest, SumsOfSquaresDegreesOfFreedomFAndPAgreeWithR) {
  const nlohmann::json cases = ReadReferenceJson("anova.json");
  ASSERT_GE(cases.size(), 18u);
  for (const auto& reference : cases) {
    SCOPED_TRACE(reference["name"].get<std::string>() + ", type " + reference["ss_type"].dump());
    const std::string block = reference["block"];
    const DataTable data = ReadReferenceTable(reference["file"], reference["response"], reference["factors"], block);
    const auto table = FitAnova(data, {.formula = reference["formula"],
                                       .ss_type = static_cast<SumOfSquares>(reference["ss_type"].get<int>()),
                                       .block = block});
    ASSERT_TRUE(table.ok()) << table.status();
    ASSERT_EQ(table->terms.size(), reference["terms"].size());
    for (const auto& expected : reference["terms"]) {
      SCOPED_TRACE(expected["term"].get<std::string>());
      const auto term = std::find_if(table->terms.begin(), table->terms.end(),
                                     [&](const AnovaTerm& t) { return t.term == expected["term"].get<std::string>(); });
      ASSERT_NE(term, table->terms.end());
      EXPECT_EQ(term->df, expected["df"].get<double>());
      EXPECT_LT(RelativeError(term->sum_sq, expected["sum_sq"]), kTolerance);
      EXPECT_LT(RelativeError(term->f, expected["f"]), kTolerance);
      if (term->df == term->nominal_df) {
        EXPECT_EQ(term->note, "");
      }
      EXPECT_LT(RelativeError(term->p, expected["p"]), 1e-7);  // a tail magnifies the error of F
    }
    EXPECT_EQ(table->residual.df, reference["residual"]["df"].get<double>());
    EXPECT_LT(RelativeError(table->residual.sum_sq, reference["residual"]["sum_sq"]), kTolerance);
  }
}

}  // namespace
}  // namespace loupe::analysis::stats
