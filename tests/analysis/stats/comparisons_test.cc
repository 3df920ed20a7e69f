// Marginal means and comparisons against R (emmeans 1.8.4, TukeyHSD, multcomp 1.4, mvtnorm) in
// reference/comparisons.json, made by reference/comparisons.R; and second formulas for the distributions.
#include "analysis/stats/comparisons.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/stats/distributions.h"
#include "analysis/stats/dunnett.h"
#include "analysis/stats/p_adjust.h"
#include "analysis/stats/random_stream.h"
#include "analysis/stats/studentized_range.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::stats {
namespace {

using ::testing::HasSubstr;

const nlohmann::json& ComparisonsReference() {
  static const nlohmann::json reference = ReadReferenceJson("comparisons.json");
  return reference;
}

std::unique_ptr<LinearModel> Fit(const DataTable& data, const std::string& formula) {
  auto model = LinearModel::Fit(data, {.formula = formula});
  if (!model.ok()) throw std::runtime_error(std::string(model.status().message()));
  return *std::move(model);
}

size_t IndexOf(const MarginalMeans& means, const std::vector<std::string>& levels) {
  for (size_t i = 0; i < means.means.size(); ++i) {
    if (means.means[i].levels == levels) return i;
  }
  throw std::runtime_error("no such levels");
}

TEST(MarginalMeansTest, MeansErrorsIntervalsAndAllPairsAgreeWithEmmeans) {
  for (const auto& reference : ComparisonsReference()["emm"]) {
    SCOPED_TRACE(reference["name"].get<std::string>());
    const DataTable data = ReadReferenceTable(reference["file"], reference["response"], reference["factors"]);
    const auto model = Fit(data, reference["formula"]);
    const auto means = ComputeMarginalMeans(*model, reference["of"]);
    ASSERT_TRUE(means.ok()) << means.status();
    const size_t k = reference["levels"].size();
    ASSERT_EQ(means->means.size(), k);
    const std::vector<Comparison> pairs = CompareAllPairs(*model, *means);
    std::vector<size_t> at;
    for (size_t i = 0; i < k; ++i) {
      at.push_back(IndexOf(*means, reference["levels"][i]));
      const MarginalMean& mean = means->means[at[i]];
      EXPECT_LT(RelativeError(mean.mean, reference["mean"][i]), 1e-12);
      EXPECT_LT(RelativeError(mean.std_error, reference["se"][i]), 1e-12);
      EXPECT_LT(RelativeError(mean.low, reference["low"][i]), 1e-9);
      EXPECT_LT(RelativeError(mean.high, reference["high"][i]), 1e-9);
    }
    size_t index = 0;
    for (size_t i = 0; i < k; ++i) {
      for (size_t j = i + 1; j < k; ++j, ++index) {
        const bool swapped = at[i] > at[j];
        const size_t a = std::min(at[i], at[j]);
        const size_t b = std::max(at[i], at[j]);
        const Comparison& pair = pairs[a * k - a * (a + 1) / 2 + (b - a - 1)];
        const double sign = swapped ? -1.0 : 1.0;
        EXPECT_NEAR(sign * pair.difference, reference["tukey"]["estimate"][index].get<double>(), 1e-11);
        EXPECT_NEAR(sign * pair.t, reference["tukey"]["t"][index].get<double>(), 1e-10);
        // ptukey itself promises about 1e-8 of absolute accuracy.
        EXPECT_NEAR(pair.p_tukey, reference["tukey"]["p"][index].get<double>(), 1e-8);
        EXPECT_NEAR(swapped ? -pair.high : pair.low, reference["tukey"]["low"][index].get<double>(), 2e-4);
        EXPECT_NEAR(pair.p_holm, reference["holm"][index].get<double>(), 1e-11);
        EXPECT_NEAR(pair.p_benjamini_hochberg, reference["bh"][index].get<double>(), 1e-11);
        EXPECT_NEAR(pair.p, reference["none"][index].get<double>(), 1e-11);
      }
    }
  }
}

TEST(ComparisonsTest, AllPairsAgreeWithTukeyHsd) {
  const DataTable data = ReadReferenceTable("warpbreaks.csv", "breaks", {"tension"});
  const auto model = Fit(data, "tension");
  const auto pairs = CompareAllPairs(*model, *ComputeMarginalMeans(*model, {"tension"}));
  const auto& hsd = ComparisonsReference()["tukey_hsd"];  // pairs L-H, M-H, M-L; ours are L-M, L-H, M-H
  const size_t ours[] = {1, 2, 0};
  const double signs[] = {1, 1, -1};
  for (size_t i = 0; i < 3; ++i) {
    const Comparison& pair = pairs[ours[i]];
    EXPECT_NEAR(signs[i] * pair.difference, hsd["difference"][i].get<double>(), 1e-11);
    EXPECT_NEAR(pair.p_tukey, hsd["p"][i].get<double>(), 1e-8);
    EXPECT_NEAR(signs[i] > 0 ? pair.low : -pair.high, hsd["low"][i].get<double>(), 1e-3);  // qtukey stops at 1e-4
  }
}

// Numbers of scipy.stats.studentized_range, made by reference/studentized_range.py. R's ptukey and qtukey are no
// reference here: at 2 degrees of freedom and two means, where Q is √2·|t|, ptukey is off by 1e-4.
TEST(StudentizedRangeTest, TailsAndQuantilesAgreeWithScipy) {
  const nlohmann::json reference = ReadReferenceJson("studentized_range.json");
  for (const auto& row : reference["tail"]) {  // scipy's nested quadrature promises 1e-11 or so
    EXPECT_NEAR(StudentizedRangeUpperTail(row["q"], row["k"].get<int>(), row["df"]), row["upper"].get<double>(), 1e-9)
        << row.dump();
  }
  for (const auto& row : reference["quantile"]) {
    EXPECT_LT(RelativeError(StudentizedRangeQuantile(row["p"], row["k"].get<int>(), row["df"]), row["q"]), 1e-7)
        << row.dump();
  }
}

// A second formula: the range of two means is √2 times a |t|; of three normals P(R ≤ w) has no closed form, but the
// quantile must invert the tail.
TEST(StudentizedRangeTest, TwoMeansAreAStudentT) {
  for (const double df : {1.0, 3.0, 30.0}) {
    for (const double q : {0.1, 1.0, 3.0, 8.0}) {
      EXPECT_NEAR(StudentizedRangeUpperTail(q, 2, df), TTwoSided(q / std::sqrt(2.0), df), 1e-12);
    }
  }
  EXPECT_NEAR(StudentizedRangeUpperTail(StudentizedRangeQuantile(0.95, 7, 11), 7, 11), 0.05, 1e-12);
  for (const double q : {60.0, 300.0}) {  // far beyond what one less the rest could hold
    const double tail = TTwoSided(q / std::sqrt(2.0), 30);
    EXPECT_LT(tail, 1e-27);
    EXPECT_NEAR(StudentizedRangeUpperTail(q, 2, 30) / tail, 1, 1e-8);
  }
  EXPECT_EQ(StudentizedRangeUpperTail(0, 3, 5), 1.0);
  EXPECT_TRUE(std::isnan(StudentizedRangeUpperTail(1, 1, 5)));
}

TEST(DunnettTest, TailsAgreeWithTheMultivariateT) {
  for (const auto& reference : ComparisonsReference()["dunnett"]) {
    const std::vector<double> lambda = reference["lambda"];
    const double df = reference["df"];
    for (int t = 1; t <= 3; ++t) {  // Genz–Bretz was asked for 1e-6
      EXPECT_NEAR(DunnettTwoSidedUpperTail(t, lambda, df), reference["two_sided"][t - 1].get<double>(), 3e-6);
    }
    for (int t = 0; t <= 3; ++t) {
      EXPECT_NEAR(DunnettOneSidedUpperTail(t, lambda, df), reference["one_sided"][t].get<double>(), 3e-6);
    }
  }
}

TEST(DunnettTest, OneComparisonIsAStudentTAndQuantilesInvertTails) {
  EXPECT_NEAR(DunnettTwoSidedUpperTail(2.1, {0.6}, 9), TTwoSided(2.1, 9), 1e-12);
  const std::vector<double> lambda(9, std::sqrt(0.5));
  EXPECT_NEAR(DunnettOneSidedUpperTail(DunnettOneSidedQuantile(0.05, lambda, 20), lambda, 20), 0.05, 1e-10);
  // Dunnett's (1955) table 1a: one-sided 5 %, four treatments, 20 degrees of freedom: 2.30; two-sided (1964): 2.65.
  EXPECT_NEAR(DunnettOneSidedQuantile(0.05, std::vector<double>(4, std::sqrt(0.5)), 20), 2.30, 0.005);
  EXPECT_NEAR(DunnettTwoSidedQuantile(0.05, std::vector<double>(4, std::sqrt(0.5)), 20), 2.65, 0.005);
}

TEST(ComparisonsTest, BaselineContrastsAgreeWithMultcompsDunnett) {
  const DataTable data = ReadReferenceTable("tooth_unbalanced.csv", "len", {"dose"});
  const auto model = Fit(data, "dose");
  const auto means = ComputeMarginalMeans(*model, {"dose"});
  const auto comparisons = CompareToBaseline(*model, *means, {"0.5"});
  ASSERT_TRUE(comparisons.ok()) << comparisons.status();
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR((*comparisons)[i].t, ComparisonsReference()["tooth_dunnett"]["t"][i].get<double>(), 1e-10);
    EXPECT_NEAR((*comparisons)[i].p_dunnett, ComparisonsReference()["tooth_dunnett"]["p"][i].get<double>(), 2e-6);
    EXPECT_GE((*comparisons)[i].p_dunnett, (*comparisons)[i].p);
  }
  EXPECT_THAT(std::string(CompareToBaseline(*model, *means, {"3"}).status().message()),
              HasSubstr("there are: 0.5; 1; 2"));
}

TEST(MarginalMeansTest, CellsThatOccurHaveMeansWhateverTheCross) {
  const DataTable data = ReadReferenceTable("positions.csv", "score", {"input", "output"});
  const auto model = Fit(data, "input+output");
  const auto cells = ComputeMarginalMeans(*model, {"input", "output"}, Combinations::kOccurring);
  ASSERT_TRUE(cells.ok());
  EXPECT_EQ(cells->means.size(), 20u);
  for (const MarginalMean& mean : cells->means) EXPECT_TRUE(mean.estimable) << mean.levels[0];
  EXPECT_EQ(ComputeMarginalMeans(*model, {"input", "output"})->means.size(), 70u);
  EXPECT_FALSE(ComputeMarginalMeans(*model, {"activation"}).ok());
}

// Hsu's MCB by hand for equal groups: mean_i − max others ± d·s·√(2/n), cut at 0; d from Dunnett's table above.
TEST(ComparisonsTest, ComparisonWithTheBestMatchesTheTextbookFormulaForEqualGroups) {
  const DataTable data = ReadReferenceTable("warpbreaks.csv", "breaks", {"tension"});
  const auto model = Fit(data, "tension");
  const auto means = ComputeMarginalMeans(*model, {"tension"});
  const auto best = CompareWithBest(*model, *means);
  ASSERT_TRUE(best.ok());
  const double d = DunnettOneSidedQuantile(0.05, {std::sqrt(0.5), std::sqrt(0.5)}, model->residual_df());
  const double margin = d * std::sqrt(model->residual_mean_sq() * 2 / 18);
  std::vector<double> m;
  for (const MarginalMean& mean : means->means) m.push_back(mean.mean);
  for (size_t i = 0; i < 3; ++i) {
    double other = -1e9;
    for (size_t j = 0; j < 3; ++j) {
      if (j != i) other = std::max(other, m[j]);
    }
    EXPECT_NEAR((*best)[i].high, std::max(0.0, m[i] - other + margin), 1e-9);
    EXPECT_EQ((*best)[i].may_be_best, m[i] - other + margin > 0);
  }
  EXPECT_TRUE((*best)[0].may_be_best);   // L
  EXPECT_FALSE((*best)[2].may_be_best);  // H
  const auto smallest = CompareWithBest(*model, *means, true);
  EXPECT_TRUE((*smallest)[2].may_be_best);
  EXPECT_FALSE((*smallest)[0].may_be_best);
}

// 320 cells, three replicates: all pairs by the interpolated tail must be the exact ones, and the true best is kept.
TEST(ComparisonsTest, ManyCellsAreComparedWithTheBestAndInPairs) {
  DataTableBuilder builder("y", {{"cell", {}}});
  RandomStream random(12);
  for (int replicate = 0; replicate < 3; ++replicate) {
    for (int cell = 0; cell < 320; ++cell) {
      ASSERT_TRUE(builder.AddRow({std::to_string(cell)}, 0.01 * (cell % 40) + 0.03 * random.Normal()).ok());
    }
  }
  const DataTable data = std::move(builder).Build();
  const auto model = Fit(data, "cell");
  const auto means = ComputeMarginalMeans(*model, {"cell"});
  const auto best = CompareWithBest(*model, *means);
  ASSERT_TRUE(best.ok());
  int may_be_best = 0;
  for (const BestComparison& cell : *best) may_be_best += cell.may_be_best;
  EXPECT_GE(may_be_best, 8);    // the eight cells with the largest true mean
  EXPECT_LE(may_be_best, 200);  // and far from all
  const auto pairs = CompareAllPairs(*model, *means);
  ASSERT_EQ(pairs.size(), 320u * 319 / 2);
  for (size_t i = 0; i < pairs.size(); i += 5003) {
    const double exact = StudentizedRangeUpperTail(std::abs(pairs[i].t) * std::sqrt(2.0), 320, model->residual_df());
    EXPECT_NEAR(pairs[i].p_tukey, exact, 1e-5 * exact + 1e-12);
  }
}

TEST(PAdjustTest, HolmAndBenjaminiHochbergAgreeWithR) {
  const std::vector<double> p = ComparisonsReference()["p_adjust"]["p"];
  const std::vector<double> holm = AdjustHolm(p), bh = AdjustBenjaminiHochberg(p);
  for (size_t i = 0; i < p.size(); ++i) {
    EXPECT_NEAR(holm[i], ComparisonsReference()["p_adjust"]["holm"][i].get<double>(), 1e-15);
    EXPECT_NEAR(bh[i], ComparisonsReference()["p_adjust"]["bh"][i].get<double>(), 1e-15);
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_DOUBLE_EQ(AdjustHolm({nan, 0.02, 0.5})[1], 0.04);
}

}  // namespace
}  // namespace loupe::analysis::stats
