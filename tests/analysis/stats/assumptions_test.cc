// Assumption checks and rank tests against R 4.2.2 (stats, car, MASS: reference/assumptions.R) and statsmodels
// (reference/anderson_darling.py).
#include "analysis/stats/assumptions.h"

#include <cmath>

#include "analysis/stats/one_way.h"
#include "analysis/stats/permutation_test.h"
#include "analysis/stats/random_stream.h"
#include "analysis/stats/rank.h"
#include "analysis/stats/residuals.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::stats {
namespace {

using ::testing::HasSubstr;

const nlohmann::json& Reference() {
  static const nlohmann::json reference = ReadReferenceJson("assumptions.json");
  return reference;
}

TEST(NormalityTest, ShapiroWilkAgreesWithR) {
  for (const auto& row : Reference()["shapiro"]) {
    const NormalityTest test = ShapiroWilk(row["values"].get<std::vector<double>>());
    EXPECT_NEAR(test.statistic, row["w"].get<double>(), 1e-6)
        << row["name"];  // R keeps the weights' polynomials in float
    EXPECT_LT(RelativeError(test.p, row["p"]), 1e-4) << row["name"];
  }
}

TEST(NormalityTest, AndersonDarlingAgreesWithStatsmodels) {
  for (const auto& row : ReadReferenceJson("anderson_darling.json")) {
    const NormalityTest test = AndersonDarling(row["values"].get<std::vector<double>>());
    EXPECT_LT(RelativeError(test.statistic, row["a2"]), 1e-9);
    EXPECT_LT(RelativeError(test.p, row["p"]), 1e-8);
  }
}

TEST(NormalityTest, DegenerateSamplesHaveNoStatistic) {
  EXPECT_TRUE(std::isnan(ShapiroWilk({1, 2}).p));
  EXPECT_TRUE(std::isnan(ShapiroWilk({2, 2, 2, 2}).p));
  EXPECT_TRUE(std::isnan(AndersonDarling({1, 2, 3}).p));
}

TEST(GroupTestsTest, WelchKruskalWallisLeveneAndBrownForsytheAgreeWithR) {
  const DataTable tooth = ReadReferenceTable("tooth_unbalanced.csv", "len", {"dose"});
  const Groups doses = *GroupValues(tooth, "dose");
  const auto welch = WelchAnova(doses);
  EXPECT_LT(RelativeError(welch->statistic, Reference()["welch"]["f"]), 1e-10);
  EXPECT_LT(RelativeError(welch->df2, Reference()["welch"]["df2"]), 1e-10);
  EXPECT_LT(RelativeError(welch->p, Reference()["welch"]["p"]), 1e-8);
  const auto kw = KruskalWallis(doses);
  EXPECT_LT(RelativeError(kw->statistic, Reference()["kruskal"]["h"]), 1e-10);
  EXPECT_LT(RelativeError(kw->p, Reference()["kruskal"]["p"]), 1e-9);
  const DataTable warp = ReadReferenceTable("warpbreaks.csv", "breaks", {"tension"});
  const Groups tensions = *GroupValues(warp, "tension");
  EXPECT_LT(RelativeError(Levene(tensions)->statistic, Reference()["levene"]["f"]), 1e-10);
  EXPECT_LT(RelativeError(Levene(tensions)->p, Reference()["levene"]["p"]), 1e-9);
  EXPECT_LT(RelativeError(BrownForsythe(tensions)->statistic, Reference()["brown"]["f"]), 1e-10);
  EXPECT_LT(RelativeError(BrownForsythe(tensions)->p, Reference()["brown"]["p"]), 1e-9);
}

TEST(GroupTestsTest, GroupsThatCannotBeTestedAreRefusedWithAReason) {
  EXPECT_THAT(std::string(WelchAnova({{1, 1}, {2, 3}}).status().message()), HasSubstr("two different values"));
  EXPECT_THAT(std::string(KruskalWallis({{1, 1}, {1}}).status().message()), HasSubstr("equal"));
  EXPECT_FALSE(KruskalWallis({{1, 2}}).ok());
}

// A second formula.
TEST(GroupTestsTest, WelchOfTwoGroupsIsTheSquareOfWelchsT) {
  const Groups groups{{1, 2, 4, 3.5}, {6, 9, 7}};
  const auto welch = WelchAnova(groups);
  const double m1 = 10.5 / 4, m2 = 22.0 / 3;
  double v1 = 0, v2 = 0;
  for (const double x : groups[0]) v1 += (x - m1) * (x - m1) / 3 / 4;
  for (const double x : groups[1]) v2 += (x - m2) * (x - m2) / 2 / 3;
  EXPECT_NEAR(welch->statistic, (m1 - m2) * (m1 - m2) / (v1 + v2), 1e-12 * welch->statistic);
  EXPECT_NEAR(welch->df2, (v1 + v2) * (v1 + v2) / (v1 * v1 / 3 + v2 * v2 / 2), 1e-10);
}

TEST(ResidualsTest, LeverageCooksDistanceAndStudentizedResidualsAgreeWithR) {
  const DataTable data = ReadReferenceTable("tooth_unbalanced.csv", "len", {"supp", "dose"});
  const auto model = LinearModel::Fit(data, {.formula = "supp*dose"});
  const std::vector<ResidualRow> rows = ComputeResiduals(**model);
  const auto& reference = Reference()["influence"];
  ASSERT_EQ(rows.size(), reference["leverage"].size());
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_NEAR(rows[i].leverage, reference["leverage"][i].get<double>(), 1e-12);
    EXPECT_NEAR(rows[i].cooks_distance, reference["cooks"][i].get<double>(), 1e-12);
    EXPECT_NEAR(rows[i].studentized, reference["studentized"][i].get<double>(), 1e-11);
    EXPECT_NEAR(rows[i].fitted, reference["fitted"][i].get<double>(), 1e-11);
  }
}

TEST(BoxCoxTest, LambdaAndItsIntervalAgreeWithMass) {
  const DataTable data = ReadReferenceTable("warpbreaks.csv", "breaks", {"wool", "tension"});
  const auto result = BoxCox(data, {.formula = "wool*tension"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_NEAR(result->lambda, Reference()["box_cox"]["lambda"].get<double>(), 5e-4);  // R's grid has steps of 5e-4
  EXPECT_NEAR(result->low, Reference()["box_cox"]["low"].get<double>(), 1e-3);
  EXPECT_NEAR(result->high, Reference()["box_cox"]["high"].get<double>(), 1e-3);
  EXPECT_THAT(result->hint, HasSubstr("logarithm"));
  EXPECT_GT(result->log_likelihood, result->log_likelihood_of_identity);
}

TEST(BoxCoxTest, ResponseThatIsNotPositiveIsRefusedWithAdvice) {
  DataTableBuilder builder("y", {{"a", {}}});
  for (const double y : {-1.0, 2.0, 3.0, 4.0}) ASSERT_TRUE(builder.AddRow({y < 2.5 ? "p" : "q"}, y).ok());
  EXPECT_THAT(std::string(BoxCox(std::move(builder).Build(), {}).status().message()), HasSubstr("row 1 has -1"));
}

TEST(RankTest, SpearmanAgreesWithR) {
  const auto& reference = Reference()["spearman"];
  const auto agreement = SpearmanAgreement(reference["x"], reference["y"]);
  EXPECT_NEAR(agreement->rho, reference["rho"].get<double>(), 1e-14);
  EXPECT_LT(RelativeError(agreement->p, reference["p"]), 1e-10);
  EXPECT_DOUBLE_EQ(SpearmanAgreement({1, 2, 3}, {3, 2, 1})->rho, -1.0);
  EXPECT_FALSE(SpearmanAgreement({1, 2, 3}, {1, 1, 1}).ok());
  EXPECT_FALSE(SpearmanAgreement({1, 2, 3}, {1, 1}).ok());
}

TEST(AssumptionsTest, EachCheckIsSaidInWords) {
  const DataTable data = ReadReferenceTable("warpbreaks.csv", "breaks", {"wool", "tension"});
  const auto report = CheckAssumptions(data, {.formula = "wool*tension"});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->normality_name, "Shapiro–Wilk");
  EXPECT_EQ(report->equal_spread_by, "wool × tension");
  ASSERT_EQ(report->sentences.size(), 4u);
  EXPECT_THAT(report->sentences[3], HasSubstr("logarithm"));
  ASSERT_FALSE(report->influential.empty());
  EXPECT_THAT(report->influential[0].levels, ::testing::ElementsAre("A", "L"));  // 70 breaks
}

// Under exchangeability the permutation p must be near the F test's own for normal data; exactly so in the limit.
TEST(PermutationTest, AgreesWithTheFTestOnWellBehavedData) {
  const DataTable data = ReadReferenceTable("tooth_unbalanced.csv", "len", {"supp", "dose"});
  const AnovaOptions options{.formula = "supp*dose"};
  const auto table = FitAnova(data, options);
  const auto permuted = PermutationF(data, options, {.permutations = 1999, .seed = 7});
  ASSERT_TRUE(permuted.ok()) << permuted.status();
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(permuted->terms[i].term, table->terms[i].term);
    EXPECT_NEAR(permuted->terms[i].p, table->terms[i].p, 4 * permuted->terms[i].p_error + 2.0 / 2000);
  }
  EXPECT_EQ(PermutationF(data, options, {.permutations = 1999, .seed = 7})->terms[2].p, permuted->terms[2].p);
}

// Four against four without overlap: 2 of the 70 splits are as extreme, so the exact p is 2/70.
TEST(PermutationTest, ConvergesToTheExactPOfATinySample) {
  DataTableBuilder builder("y", {{"a", {}}});
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(builder.AddRow({i < 4 ? "p" : "q"}, i < 4 ? i * 0.1 : 50 + i * 0.37).ok());
  const DataTable data = std::move(builder).Build();
  const auto result = PermutationF(data, {}, {.permutations = 19999, .seed = 3});
  ASSERT_TRUE(result.ok());
  EXPECT_NEAR(result->terms[0].p, 2.0 / 70, 4 * result->terms[0].p_error);
  EXPECT_FALSE(PermutationF(data, {}, {.permutations = 10, .seed = 3}).ok());
}

TEST(RandomStreamTest, SequenceIsFixedAndDrawsAreUniform) {
  // First outputs of SplitMix64 for seed 1234567, as published with the Java reference code.
  RandomStream stream(1234567);
  EXPECT_EQ(stream.Next(), 6457827717110365317ull);
  EXPECT_EQ(stream.Next(), 3203168211198807973ull);
  RandomStream draws(5);
  int counts[6] = {};
  for (int i = 0; i < 60000; ++i) ++counts[draws.Below(6)];
  double chi_squared = 0;
  for (const int count : counts) chi_squared += (count - 10000.0) * (count - 10000.0) / 10000.0;
  EXPECT_LT(chi_squared, 20.5);  // 0.999 quantile of χ²₅
}

}  // namespace
}  // namespace loupe::analysis::stats
