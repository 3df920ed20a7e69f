#include "analysis/stats/importance.h"

#include <cmath>
#include <map>

#include "analysis/stats/random_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe::analysis::stats {
namespace {

double Share(const Importance& importance, const std::vector<std::string>& factors) {
  for (const ImportanceShare& share : importance.shares) {
    if (share.factors == factors) return share.share;
  }
  throw std::runtime_error("no such share");
}

// A second formula: with every cell run once, no resampling and leaves of one row, a tree is the table itself, and its
// shares are the sums of squares of the complete factorial decomposition.
TEST(ImportanceTest, FullTableGivesTheExactDecomposition) {
  const size_t levels[] = {3, 4, 2};
  DataTableBuilder builder("y", {{"a", {}}, {"b", {}}, {"c", {}}});
  RandomStream random(9);
  double y[3][4][2];
  double mean = 0;
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 4; ++j) {
      for (size_t k = 0; k < 2; ++k) {
        y[i][j][k] = 3.0 * static_cast<double>(i) + random.Normal() + static_cast<double>(i * j);
        mean += y[i][j][k] / 24;
        ASSERT_TRUE(builder.AddRow({std::to_string(i), std::to_string(j), std::to_string(k)}, y[i][j][k]).ok());
      }
    }
  }
  double total = 0, va = 0, vab = 0;
  for (size_t i = 0; i < levels[0]; ++i) {
    double ma = 0;
    for (size_t j = 0; j < levels[1]; ++j) {
      const double mab = 0.5 * (y[i][j][0] + y[i][j][1]);
      vab += (mab - mean) * (mab - mean) / 12;
      ma += mab / 4;
      for (size_t k = 0; k < 2; ++k) total += (y[i][j][k] - mean) * (y[i][j][k] - mean) / 24;
    }
    va += (ma - mean) * (ma - mean) / 3;
  }
  const auto importance = ComputeImportance(std::move(builder).Build(), {.trees = 1, .bootstrap = false});
  ASSERT_TRUE(importance.ok()) << importance.status();
  EXPECT_NEAR(Share(*importance, {"a"}), va / total, 1e-12);
  double vb = 0;
  for (size_t j = 0; j < 4; ++j) {
    double mb = 0;
    for (size_t i = 0; i < 3; ++i) mb += (y[i][j][0] + y[i][j][1]) / 6;
    vb += (mb - mean) * (mb - mean) / 4;
  }
  EXPECT_NEAR(Share(*importance, {"b"}), vb / total, 1e-12);
  EXPECT_NEAR(Share(*importance, {"a", "b"}), (vab - va - vb) / total, 1e-12);
}

TEST(ImportanceTest, ForestFindsTheFactorThatMattersAndTheOneThatDoesNot) {
  DataTableBuilder builder("y", {{"big", {}}, {"small", {}}, {"none", {}}});
  RandomStream random(4);
  for (int i = 0; i < 400; ++i) {
    const auto big = static_cast<int>(random.Below(4)), small = static_cast<int>(random.Below(3)),
               none = static_cast<int>(random.Below(3));
    ASSERT_TRUE(builder
                    .AddRow({std::to_string(big), std::to_string(small), std::to_string(none)},
                            3.0 * big + 1.0 * small + 0.1 * random.Normal())
                    .ok());
  }
  const DataTable data = std::move(builder).Build();
  const auto importance = ComputeImportance(data, {.trees = 16});
  ASSERT_TRUE(importance.ok());
  EXPECT_EQ(importance->shares[0].factors[0], "big");
  // Var(3u) : Var(v) = 9·15/12 : 8/12, u on 4 and v on 3 equally likely levels.
  EXPECT_NEAR(Share(*importance, {"big"}), 135.0 / 143, 0.01);
  EXPECT_NEAR(Share(*importance, {"small"}), 8.0 / 143, 0.01);
  EXPECT_LT(Share(*importance, {"none"}), 0.001);
  EXPECT_EQ(ComputeImportance(data, {.trees = 16})->shares[0].share, importance->shares[0].share);
}

TEST(ImportanceTest, UnknownFactorAndConstantResponseAreRefused) {
  DataTableBuilder builder("y", {{"a", {}}});
  ASSERT_TRUE(builder.AddRow({"p"}, 1).ok());
  ASSERT_TRUE(builder.AddRow({"q"}, 1).ok());
  const DataTable data = std::move(builder).Build();
  EXPECT_FALSE(ComputeImportance(data, {}).ok());
  EXPECT_FALSE(ComputeImportance(data, {.factors = {"b"}}).ok());
}

}  // namespace
}  // namespace loupe::analysis::stats
