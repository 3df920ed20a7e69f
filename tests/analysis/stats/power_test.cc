// Power and noncentral-F intervals against scipy and statsmodels (reference/power.py).
#include "analysis/stats/power.h"

#include <cmath>
#include <limits>
#include <vector>

#include "analysis/stats/anova.h"
#include "analysis/stats/comparisons.h"
#include "analysis/stats/distributions.h"
#include "analysis/stats/dunnett.h"
#include "analysis/stats/effect_size.h"
#include "analysis/stats/model_plan.h"
#include "analysis/stats/model_reduction.h"
#include "analysis/stats/pair_information.h"
#include "analysis/stats/studentized_range.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::stats {
namespace {

TEST(PowerTest, PowerAgreesWithScipyAndStatsmodels) {
  const nlohmann::json reference = ReadReferenceJson("power.json");
  for (const auto& row : reference["power"]) {
    const FTestPlan plan{.df = row["df"], .residual_df = row["residual_df"], .n = row["n"], .alpha = row["alpha"]};
    EXPECT_NEAR(FTestPower(plan, row["f"]), row["power"].get<double>(), 1e-9) << row.dump();
  }
}

TEST(PowerTest, DetectableEffectInvertsThePower) {
  const FTestPlan plan{.df = 3, .residual_df = 60, .n = 64, .alpha = 0.05};
  const double f = MinimumDetectableF(plan, 0.8);
  EXPECT_NEAR(FTestPower(plan, f), 0.8, 1e-10);
  EXPECT_NEAR(FTestPower(plan, 0), 0.05, 1e-12);  // no effect: the level of the test
  // Two levels δ apart, the others half-way: f² = δ²/(2k).
  EXPECT_NEAR(MinimumDetectableDifference(plan, 2.0 * 4 / plan.n, 0.8), f * std::sqrt(8.0), 1e-12);
  EXPECT_TRUE(std::isnan(FTestPower({.df = 3, .residual_df = 0, .n = 4, .alpha = 0.05}, 1)));
}

// What a report asks of a design that leaves next to nothing: a number or NaN, and no exception from a root finder.
TEST(PowerTest, QuantilesAtTheEdgeAreNumbersOrNaN) {
  const double kSmall = std::numeric_limits<double>::min(), kLarge = std::numeric_limits<double>::max();
  const double kInfinity = std::numeric_limits<double>::infinity(), kNone = std::nan("");
  for (const double df : {kSmall, 1e-3, 1.0, kLarge, kInfinity, -1.0, kNone}) {
    for (const double p : {0.0, kSmall, 0.5, 1 - 1e-16, 2.0, kNone}) {
      SCOPED_TRACE(::testing::Message() << "df " << df << ", p " << p);
      for (const int k : {0, 500}) {
        double q = 0;
        EXPECT_NO_THROW(q = StudentizedRangeQuantile(p, k, df));
        EXPECT_FALSE(q < 0);
        EXPECT_NO_THROW(StudentizedRangeUpperTail(p * 1e3, k, df));
      }
      for (const std::vector<double>& lambda : {std::vector<double>{}, {0.5, 0.5, 1.0}}) {
        EXPECT_NO_THROW(DunnettTwoSidedQuantile(p, lambda, df));
        EXPECT_NO_THROW(DunnettOneSidedQuantile(p, lambda, df));
      }
      EXPECT_NO_THROW(TQuantile(p, df));
      EXPECT_NO_THROW(FQuantile(p, df, df));
      EXPECT_NO_THROW(NormalQuantile(p));
      const FTestPlan plan{.df = df, .residual_df = df, .n = df, .alpha = p};
      EXPECT_NO_THROW(FTestPower(plan, 0.25));
      EXPECT_NO_THROW(MinimumDetectableF(plan, 0.8));
      EXPECT_NO_THROW(MinimumDetectableF({.df = 3, .residual_df = df, .n = df, .alpha = 0.05}, p));
      EXPECT_NO_THROW(ComputeEffectSize(
          {.df = 1, .sum_sq = p, .residual_df = df, .residual_sum_sq = p, .total_sum_sq = p, .n = df}, 0.95));
    }
  }
}

TEST(PowerTest, ReplicatesNeededIsTheSmallestThatReachesThePower) {
  const int needed = ReplicatesNeeded(20, 20, 19, 0.3, 0.05, 0.8, false);
  const auto at = [](int replicates) {
    return FTestPower({.df = 19, .residual_df = 20.0 * replicates - 20, .n = 20.0 * replicates, .alpha = 0.05}, 0.3);
  };
  EXPECT_GE(at(needed), 0.8);
  EXPECT_LT(at(needed - 1), 0.8);
  EXPECT_EQ(ReplicatesNeeded(20, 20, 19, 1e-6, 0.05, 0.8, true), 0);
}

TEST(EffectSizeTest, NoncentralityIntervalsAgreeWithScipy) {
  const nlohmann::json reference = ReadReferenceJson("power.json");
  for (const auto& row : reference["intervals"]) {
    const NoncentralityInterval interval = NoncentralFInterval(row["f"], row["df1"], row["df2"], row["confidence"]);
    EXPECT_NEAR(interval.low, row["low"].get<double>(), 1e-7 * (1 + interval.low)) << row.dump();
    EXPECT_NEAR(interval.high, row["high"].get<double>(), 1e-7 * (1 + interval.high)) << row.dump();
  }
}

// Where F is enormous the series is replaced; both must meet, and the interval must hold F's own λ = F·df1.
TEST(EffectSizeTest, EnormousFHasAnIntervalToo) {
  for (const double f : {1e6, 1e9, 1e12}) {
    const NoncentralityInterval interval = NoncentralFInterval(f, 5, 30, 0.95);
    EXPECT_GT(interval.low, 0.4 * 5 * f);
    EXPECT_LT(interval.high, 1.7 * 5 * f);
  }
  EXPECT_NEAR(NoncentralFCdf(2e7, 5, 30, 0.99999e8), NoncentralFCdf(2e7, 5, 30, 1.00001e8), 1e-4);
}

// By hand on warpbreaks: tension, SS = 2034.26, df 2, SSE = 5745.11 on 48, SST = 9232.81, n = 54.
TEST(EffectSizeTest, SizesFollowTheirFormulas) {
  const DataTable data = ReadReferenceTable("warpbreaks.csv", "breaks", {"wool", "tension"});
  const auto table = FitAnova(data, {.formula = "wool*tension"});
  const AnovaTerm& term = table->terms[1];
  const double ss = term.sum_sq, sse = table->residual.sum_sq, sst = table->total_sum_sq, mse = sse / 48;
  EXPECT_NEAR(term.effect.partial_eta_sq, ss / (ss + sse), 1e-14);
  EXPECT_NEAR(term.effect.eta_sq, ss / sst, 1e-14);
  EXPECT_NEAR(term.effect.omega_sq, (ss - 2 * mse) / (sst + mse), 1e-14);
  EXPECT_NEAR(term.effect.partial_omega_sq, 2 * (term.f - 1) / (2 * (term.f - 1) + 54),
              1e-14);  // Olejnik & Algina's form
  EXPECT_NEAR(term.effect.epsilon_sq, (ss - 2 * mse) / sst, 1e-14);
  EXPECT_NEAR(term.effect.cohens_f, std::sqrt(term.f * 2 / 48), 1e-14);
  EXPECT_LT(term.effect.partial_eta_sq_low, term.effect.partial_eta_sq);
  EXPECT_GT(term.effect.partial_eta_sq_high, term.effect.partial_eta_sq);
}

// The variance of every difference of a design is what a fit of it has, and min. Δ the root of λ times that.
TEST(PairInformationTest, VariancesAreThoseOfTheFit) {
  const DataTable data =
      ReadReferenceTable("paper_unbalanced.csv", "y", {"input", "output", "activation", "scale", "rep"});
  for (const std::string formula : {"input + output + activation + scale", "input*activation + output"}) {
    const auto planned = PlanCells(data, {.formula = formula, .block = "rep"});
    ASSERT_TRUE(planned.ok());
    const ModelMatrix matrix(planned->cells, planned->plan.terms);
    const auto reduction = ModelReduction::Create(matrix, planned->cells);
    ASSERT_TRUE(reduction.ok());
    // Type II: input and output are tested without the interaction.
    const auto model = LinearModel::Fit(
        data,
        {.formula = formula == "input*activation + output" ? "input + activation + output" : formula, .block = "rep"});
    ASSERT_TRUE(model.ok());
    for (size_t term = 1; term <= 2; ++term) {
      const std::string name = data.factors[matrix.terms()[term][0]].name;
      std::vector<size_t> after;
      for (size_t u = 0; u < matrix.terms().size(); ++u) {
        if (!IsContained(matrix.terms()[term], matrix.terms()[u])) after.push_back(u);
      }
      const auto pairs = ComparePairsOfLevels(matrix, planned->cells, reduction->Whole(), term, after);
      const auto fitted = DifferencesOfAllPairs(**model, *ComputeMarginalMeans(**model, {name}));
      ASSERT_EQ(pairs.size(), fitted.size());
      for (size_t i = 0; i < pairs.size(); ++i) {
        EXPECT_EQ(pairs[i].estimable, fitted[i].estimable) << name << " " << fitted[i].first << " " << fitted[i].second;
        if (!pairs[i].estimable) continue;
        EXPECT_NEAR(std::sqrt(pairs[i].variance) * (*model)->residual_sd(), fitted[i].std_error, 1e-10);
      }
    }
  }
}

TEST(PairInformationTest, ResidualPositionsOfThePaperNeedMore) {
  // 320 cells × 3, tests of input on 7 and 940 degrees of freedom: Res_in and Res_out meet in 2 × 48 trials.
  const FTestPlan plan{.df = 7, .residual_df = 940, .n = 960};
  EXPECT_NEAR(MinimumDetectableDifference(plan, 2.0 / 48), 0.776, 0.001);
  EXPECT_NEAR(MinimumDetectableDifference(plan, 2.0 * 10 / 960), 0.549, 0.001);  // were the ten levels balanced
}

}  // namespace
}  // namespace loupe::analysis::stats
