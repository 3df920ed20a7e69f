// FID, KID, precision/recall and cosines against numpy and scipy (reference/make_metrics.py) and the field's own
// packages (reference/make_package_metrics.py), and laws they must obey.
#include <cmath>
#include <limits>
#include <string>

#include "analysis/metrics/cosine_similarity.h"
#include "analysis/metrics/embedding_mmd.h"
#include "analysis/metrics/frechet_distance.h"
#include "analysis/metrics/kernel_distance.h"
#include "analysis/metrics/precision_recall.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/analysis/metrics/features.h"

namespace loupe::analysis::metrics {
namespace {

using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(FeatureMetricsTest, EqualNumpyAndScipyOnTheSameFeatures) {
  for (const auto& reference : References()) {
    SCOPED_TRACE(reference["name"].get<std::string>());
    const int64_t cols = reference["cols"];
    const FeatureMatrix x = Matrix(reference["generated"], reference["rows"][0], cols);
    const FeatureMatrix y = Matrix(reference["reference"], reference["rows"][1], cols);

    // The reference squares the singular values, so that is how far it can be trusted where some are zero: √ε ≈ 1.5e-8
    // of the largest, for each of at most 24.
    const auto fid = ComputeFrechetDistance(x, y);
    ASSERT_TRUE(fid.ok());
    EXPECT_NEAR(fid->value, reference["fid"].get<double>(), 1e-6);
    EXPECT_DOUBLE_EQ(fid->value, fid->mean_term + fid->trace_term);
    if (!reference["fid_sqrtm"].is_null()) {
      EXPECT_NEAR(fid->value, reference["fid_sqrtm"].get<double>(), 1e-9);
    }
    EXPECT_EQ(fid->few_samples, x.rows <= cols || y.rows <= cols);

    const auto kid = ComputeKernelDistance(x, y, {.subsets = 1, .subset_size = 1'000'000});
    ASSERT_TRUE(kid.ok());
    if (x.rows == y.rows) {
      EXPECT_NEAR(kid->mean / reference["kid"].get<double>(), 1.0, 1e-9);
    }

    const auto shares = ComputePrecisionRecall(x, y, 3);
    ASSERT_TRUE(shares.ok());
    EXPECT_DOUBLE_EQ(shares->precision, reference["precision_recall"][0].get<double>());
    EXPECT_DOUBLE_EQ(shares->recall, reference["precision_recall"][1].get<double>());

    // Sums of at most a few thousand terms of size 1: 1e-13 leaves room for another order of summation.
    EXPECT_NEAR(MeanPairwiseCosine(x, y).value(), reference["pairwise"].get<double>(), 1e-13);
    EXPECT_NEAR(MeanNearestCosine(x, y).value(), reference["nearest"].get<double>(), 1e-13);
    EXPECT_NEAR(MeanCosineWithin(x).value(), reference["within"].get<double>(), 1e-13);
  }
}

TEST(FeatureMetricsTest, EqualPytorchFidTorchmetricsAndTorchFidelityOnTheSameFeatures) {
  const auto cases = References(), packages = References("package_metrics.json");
  ASSERT_EQ(cases.size(), packages.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto& package = packages[i];
    ASSERT_EQ(package["name"], cases[i]["name"]);
    SCOPED_TRACE(package["name"].get<std::string>());
    const int64_t cols = cases[i]["cols"];
    const FeatureMatrix x = Matrix(cases[i]["generated"], cases[i]["rows"][0], cols);
    const FeatureMatrix y = Matrix(cases[i]["reference"], cases[i]["rows"][1], cols);

    const double fid = ComputeFrechetDistance(x, y)->value;
    if (package.contains("pytorch_fid")) {
      EXPECT_NEAR(fid, package["pytorch_fid"].get<double>(), 1e-9);
    }
    // torchmetrics takes roots of the eigenvalues of Σ1Σ2: where some are zero, √ε ≈ 1.5e-8 of the largest for each of
    // at most 24, as above.
    EXPECT_NEAR(fid, package["torchmetrics_fid"].get<double>(), 1e-6);
    if (package.contains("torchmetrics_kid")) {
      EXPECT_NEAR(ComputeKernelDistance(x, y)->mean / package["torchmetrics_kid"].get<double>(), 1.0, 1e-9);
    }
    // Other subsets are drawn, so the means may differ by five standard errors of their difference. The subsets' values
    // are heavy-tailed (a cubic kernel), which makes their sd, from 2000 of them, good to some 5 % on each side.
    const auto& drawn = package["torchmetrics_kid_subsets"];
    const auto kid = ComputeKernelDistance(x, y, {.subsets = drawn["subsets"], .subset_size = drawn["subset_size"]});
    const double sd = drawn["sd"], subsets = drawn["subsets"];
    EXPECT_NEAR(kid->mean, drawn["mean"].get<double>(), 5 * sd * std::sqrt(2 / subsets));
    EXPECT_NEAR(kid->sd / sd, 1.0, 0.2);

    // torch-fidelity averages in float32.
    const auto shares = ComputePrecisionRecall(x, y, 3);
    EXPECT_NEAR(shares->precision, package["torch_fidelity_precision_recall"][0].get<double>(), 1e-7);
    EXPECT_NEAR(shares->recall, package["torch_fidelity_precision_recall"][1].get<double>(), 1e-7);

    const auto& cosine = package["torchmetrics_cosine"];
    EXPECT_NEAR(MeanPairwiseCosine(x, y).value(), cosine["pairwise"].get<double>(), 1e-13);
    EXPECT_NEAR(MeanNearestCosine(x, y).value(), cosine["nearest"].get<double>(), 1e-13);
    EXPECT_NEAR(MeanCosineWithin(x).value(), cosine["within"].get<double>(), 1e-13);
  }
}

TEST(FrechetDistanceTest, BothRoutesAgreeWhereEitherApplies) {
  // 65 rows take the sample itself as factor at 65 columns and the Cholesky factor at 64: padding with a column of
  // zeros changes the route and not the distance.
  const FeatureMatrix x = Gaussian(65, 64, 0, 1, 1), y = Gaussian(65, 64, 0.2, 1.5, 2);
  const auto widen = [](const FeatureMatrix& from) {
    FeatureMatrix wide{from.rows, from.cols + 1, {}};
    for (int64_t row = 0; row < from.rows; ++row) {
      for (float value : from.Row(row)) wide.values.push_back(value);
      wide.values.push_back(0);
    }
    return wide;
  };
  const double by_cholesky = ComputeFrechetDistance(x, y)->value;
  const auto by_sample = ComputeFrechetDistance(widen(x), widen(y));
  EXPECT_TRUE(by_sample->few_samples);
  EXPECT_NEAR(by_sample->value, by_cholesky, 1e-9);  // values near 60: ten digits
}

TEST(FrechetDistanceTest, LargeMatricesTakeTheSquaredRouteAndAgreeWithAScaledSet) {
  // For y = a·x the Gaussians commute: FID = (1 − a)² (|μ|² + Tr Σ), exactly. 1100 columns use the eigenvalue route.
  const FeatureMatrix x = Gaussian(1300, 1100, 0.5, 1, 3);
  FeatureMatrix y = x;
  for (float& value : y.values) value *= 0.5f;  // exact in binary
  double expected = 0;
  for (int64_t col = 0; col < x.cols; ++col) {
    double sum = 0, sum_sq = 0;
    for (int64_t row = 0; row < x.rows; ++row) sum += static_cast<double>(x.Row(row)[static_cast<size_t>(col)]);
    const double mean = sum / 1300;
    for (int64_t row = 0; row < x.rows; ++row) {
      const double deviation = static_cast<double>(x.Row(row)[static_cast<size_t>(col)]) - mean;
      sum_sq += deviation * deviation;
    }
    expected += 0.25 * (mean * mean + sum_sq / 1299);
  }
  EXPECT_NEAR(ComputeFrechetDistance(x, y)->value / expected, 1.0, 1e-9);
}

TEST(FrechetDistanceTest, AKeptReferenceGivesTheSameDistance) {
  const FeatureMatrix x = Gaussian(30, 16, 0, 1, 4), y = Gaussian(40, 16, 1, 1, 5);
  const auto reference = FrechetReference::Create(y);
  ASSERT_TRUE(reference.ok());
  EXPECT_EQ(reference->DistanceTo(x)->value, ComputeFrechetDistance(x, y)->value);
}

TEST(FrechetDistanceTest, FewSamplesGiveAWarningThatNamesTheCounts) {
  const auto fid = ComputeFrechetDistance(Gaussian(4, 32, 0, 1, 6), Gaussian(7, 32, 0, 1, 7));
  ASSERT_TRUE(fid.ok());
  EXPECT_TRUE(std::isfinite(fid->value));
  EXPECT_THAT(fid->warning, HasSubstr("4 generated and 7 reference pictures in 32 dimensions"));
}

TEST(FrechetDistanceTest, ConstantFeaturesGiveTheDistanceOfTheMeans) {
  FeatureMatrix x{3, 2, {1, 2, 1, 2, 1, 2}}, y{3, 2, {1, 5, 1, 5, 1, 5}};
  EXPECT_DOUBLE_EQ(ComputeFrechetDistance(x, y)->value, 9.0);
}

TEST(KernelDistanceTest, SubsetsAverageToTheWholeSetsEstimate) {
  // Each subset's value is an unbiased estimate of the whole sets' one, so the mean of 2000 must be within 5 standard
  // errors of it; the fixed seed makes the outcome certain.
  const FeatureMatrix x = Gaussian(40, 8, 0, 1, 8), y = Gaussian(40, 8, 0.3, 1, 9);
  const double whole = ComputeKernelDistance(x, y, {.subset_size = 40})->mean;
  const auto kid = ComputeKernelDistance(x, y, {.subsets = 2000, .subset_size = 10, .seed = 11});
  ASSERT_TRUE(kid.ok());
  EXPECT_EQ(kid->subsets, 2000);
  EXPECT_GT(kid->sd, 0);
  EXPECT_NEAR(kid->mean, whole, 5 * kid->sd / std::sqrt(2000.0));
}

TEST(KernelDistanceTest, TheSeedDecidesTheSubsets) {
  const FeatureMatrix x = Gaussian(40, 8, 0, 1, 8), y = Gaussian(40, 8, 0.3, 1, 9);
  const auto at = [&](uint64_t seed) {
    return ComputeKernelDistance(x, y, {.subsets = 5, .subset_size = 10, .seed = seed})->mean;
  };
  EXPECT_EQ(at(1), at(1));
  EXPECT_NE(at(1), at(2));
}

TEST(KernelDistanceTest, SmallSetsLowerTheSubsetSize) {
  const auto kid = ComputeKernelDistance(Gaussian(12, 4, 0, 1, 1), Gaussian(30, 4, 0, 1, 2));
  ASSERT_TRUE(kid.ok());
  EXPECT_EQ(kid->subset_size, 12);
  EXPECT_EQ(kid->subsets, 100);
}

TEST(PrecisionRecallTest, ARowAtExactlyTheRadiusIsInside) {
  // Reference 0, 3, 4 on a line, k = 1: radii 3, 1, 1. Generated −3 is exactly 3 from 0; 6 is 2 from 4.
  const FeatureMatrix reference{3, 1, {0, 3, 4}}, generated{2, 1, {-3, 6}};
  EXPECT_DOUBLE_EQ(ComputePrecisionRecall(generated, reference, 1)->precision, 0.5);
}

TEST(CosineTest, MatchedPairsUseRowIWithRowI) {
  const FeatureMatrix x{2, 2, {1, 0, 0, 2}}, y{2, 2, {3, 0, 0, -1}};
  EXPECT_DOUBLE_EQ(MeanMatchedCosine(x, y).value(), 0.0);
  EXPECT_DOUBLE_EQ(MeanMatchedCosine(x, x).value(), 1.0);
}

TEST(FeatureChecksTest, BadFeaturesGetASentence) {
  const FeatureMatrix good = Gaussian(5, 3, 0, 1, 1);
  EXPECT_THAT(Message(ComputeFrechetDistance(Rows(good, 0, 1), good).status()),
              HasSubstr("generated features have 1 row(s), but this score needs at least 2"));
  EXPECT_THAT(Message(ComputeKernelDistance(good, Gaussian(5, 4, 0, 1, 1)).status()),
              HasSubstr("3 columns and the reference features 4"));
  FeatureMatrix broken = good;
  broken.values[7] = std::nanf("");
  EXPECT_THAT(Message(MeanPairwiseCosine(good, broken).status()), HasSubstr("reference features hold nan in row 2"));
  EXPECT_THAT(Message(MeanPairwiseCosine(FeatureMatrix{1, 2, {0, 0}}, FeatureMatrix{1, 2, {1, 0}}).status()),
              HasSubstr("row 0 of the generated features is all zeros"));
  EXPECT_THAT(Message(ComputePrecisionRecall(Rows(good, 0, 3), good, 3).status()), HasSubstr("at least 4"));
  EXPECT_THAT(Message(MeanMatchedCosine(Rows(good, 0, 3), good).status()), HasSubstr("there are 5 and 3"));
  EXPECT_THAT(Message(ComputeFrechetDistance(FeatureMatrix{2, 3, {1, 2}}, good).status()), HasSubstr("hold 2 numbers"));
}

// Whatever the features are, a score is a finite number or a refusal with a sentence.
TEST(FeatureMetricsTest, DegenerateFeaturesGiveNumbersOrSentences) {
  constexpr float kLargest = std::numeric_limits<float>::max(), kTiny = std::numeric_limits<float>::denorm_min();
  std::vector<FeatureMatrix> sets = {{0, 4, {}}, {4, 0, {}}, {1, 4, {1, 2, 3, 4}}, {2, 4, {1, 2}}, {-1, 4, {}}};
  for (const float value : {0.0F, 1.0F, kLargest, -kLargest, kTiny, std::nanf(""), HUGE_VALF})
    sets.push_back({5, 4, std::vector<float>(20, value)});
  FeatureMatrix opposite{6, 4, std::vector<float>(24, kLargest)}, line = Gaussian(6, 4, 0, 1, 1);
  for (size_t i = 0; i < 24; i += 2) opposite.values[i] = -kLargest;
  for (size_t i = 0; i < 24; ++i) line.values[i] = static_cast<float>(i / 4) * (i % 4 == 0 ? 1e30F : 1e-30F);
  sets.insert(sets.end(), {opposite, line, Gaussian(6, 4, 0, 1, 2), Gaussian(6, 3, 0, 1, 3)});
  const auto expect = [](const auto& result, const auto& number) {
    if (result.ok()) {
      EXPECT_TRUE(std::isfinite(number(*result))) << number(*result);
    } else {
      EXPECT_FALSE(result.status().message().empty());
    }
  };
  for (size_t i = 0; i < sets.size(); ++i) {
    for (size_t j = 0; j < sets.size(); ++j) {
      SCOPED_TRACE(::testing::Message() << i << " and " << j);
      expect(ComputeFrechetDistance(sets[i], sets[j]), [](const FrechetDistance& d) { return d.value; });
      expect(ComputeKernelDistance(sets[i], sets[j]), [](const KernelDistance& d) { return d.mean + d.sd; });
      expect(ComputePrecisionRecall(sets[i], sets[j]), [](const PrecisionRecall& d) { return d.precision + d.recall; });
      const auto itself = [](double value) { return value; };
      expect(MeanPairwiseCosine(sets[i], sets[j]), itself);
      expect(MeanMatchedCosine(sets[i], sets[j]), itself);
      expect(MeanNearestCosine(sets[i], sets[j]), itself);
      expect(ComputeCmmd(sets[i], sets[j]), itself);
      expect(MeanCosineWithin(sets[i]), itself);
    }
  }
}

}  // namespace
}  // namespace loupe::analysis::metrics
