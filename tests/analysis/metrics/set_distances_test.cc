// Fréchet distance, kernel distance and CMMD beside torch-fidelity and clip-mmd (reference/make_distances.py), and
// CMMD's laws.
#include <algorithm>
#include <cmath>
#include <string>

#include "analysis/metrics/embedding_mmd.h"
#include "analysis/metrics/frechet_distance.h"
#include "analysis/metrics/kernel_distance.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/metrics/features.h"

namespace loupe::analysis::metrics {
namespace {

using ::testing::HasSubstr;

TEST(SetDistancesTest, EqualTorchFidelityAndClipMmd) {
  const auto cases = References(), packages = References("distances.json");
  ASSERT_EQ(cases.size(), packages.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto& package = packages[i];
    ASSERT_EQ(package["name"], cases[i]["name"]);
    SCOPED_TRACE(package["name"].get<std::string>());
    const int64_t cols = cases[i]["cols"];
    const FeatureMatrix x = Matrix(cases[i]["generated"], cases[i]["rows"][0], cols);
    const FeatureMatrix y = Matrix(cases[i]["reference"], cases[i]["rows"][1], cols);

    // torch-fidelity takes roots of eigenvalues of Σ1Σ2: good to √ε ≈ 1.5e-8 of the largest where some are zero.
    EXPECT_NEAR(ComputeFrechetDistance(x, y)->value, package["torch_fidelity_fid"].get<double>(), 1e-6);
    const int64_t least = std::min(x.rows, y.rows);
    const double kid = package["torch_fidelity_kid_of_first"];
    EXPECT_NEAR(ComputeKernelDistance(Rows(x, 0, least), Rows(y, 0, least))->mean / kid, 1, 1e-9);
    // Kernels near 1 times 1000, each with a rounding error of 1e-16.
    EXPECT_NEAR(ComputeCmmd(x, y).value(), package["clip_mmd"].get<double>(), 1e-11);
    EXPECT_NEAR(ComputeCmmd(x, y).value(), package["cmmd"].get<double>(), 1e-11);
  }
}

TEST(CmmdTest, OppositeRowsHaveTheClosedForm) {
  // |u − v|² = 4 whatever the lengths: 2000·(1 − e^(−4/200)).
  EXPECT_NEAR(ComputeCmmd({1, 2, {3, 0}}, {1, 2, {-0.5F, 0}}).value(), 2000 * (1 - std::exp(-0.02)), 1e-10);
}

TEST(CmmdTest, ASetAndItselfHaveNone) {
  // More rows than are taken at a time.
  const FeatureMatrix x = Gaussian(1100, 3, 0, 1, 1);
  EXPECT_EQ(ComputeCmmd(x, x).value(), 0);
}

TEST(CmmdTest, SetsOfOneKindHaveTheStatedBias) {
  // (2/n)·1000·E[1 − k(x, x')] = (2/n)·10·(1 − E cos) to first order, with cosines that average 0. One value has a
  // relative standard deviation of √(2/16), their mean one of 1.8 %: a tenth is five of them.
  constexpr int64_t kRows = 20, kSets = 400;
  const FeatureMatrix all = Gaussian(2 * kRows * kSets, 16, 0, 1, 2);
  double sum = 0;
  for (int64_t i = 0; i < kSets; ++i) {
    const int64_t begin = 2 * kRows * i;
    sum += ComputeCmmd(Rows(all, begin, begin + kRows), Rows(all, begin + kRows, begin + 2 * kRows)).value();
  }
  EXPECT_NEAR(sum / kSets / (20.0 / kRows), 1, 0.1);
}

TEST(CmmdTest, RowsWithoutDirectionAreRefused) {
  const auto refused = ComputeCmmd({1, 2, {1, 2}}, {2, 2, {1, 2, 0, 0}});
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("row 1 of the reference features is all zeros"));
}

}  // namespace
}  // namespace loupe::analysis::metrics
