// Moments merged from parts are the whole's.
#include "analysis/metrics/feature_moments.h"

#include <cmath>
#include <string>

#include "analysis/metrics/frechet_distance.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/metrics/features.h"

namespace loupe::analysis::metrics {
namespace {

using ::testing::HasSubstr;

// Rows up to each of `ends`, merged in order.
FeatureMoments Merged(const FeatureMatrix& from, const std::vector<int64_t>& ends) {
  FeatureMoments merged = FeatureMoments::Of(Rows(from, 0, ends.front())).value();
  for (size_t i = 1; i < ends.size(); ++i) {
    EXPECT_TRUE(merged.Merge(FeatureMoments::Of(Rows(from, ends[i - 1], ends[i])).value()).ok());
  }
  return merged;
}

double LargestOf(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// Relative to the largest element: a small one among them is a difference of large ones in either.
void ExpectEqual(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  const double scale = LargestOf(b);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i] / scale, b[i] / scale, 1e-12) << i;
}

TEST(FeatureMomentsTest, AnySplitMergesToTheWhole) {
  // Far from 0, where Σxxᵀ itself would leave 8 of 16 digits to the covariance.
  for (const double mean : {0.3, 1e4}) {
    const FeatureMatrix all = Gaussian(1500, 7, mean, 1, 11);
    const FeatureMoments whole = FeatureMoments::Of(all).value();
    std::vector<int64_t> singles;
    for (int64_t i = 1; i <= 1500; ++i) singles.push_back(i);
    for (const auto& ends :
         {std::vector<int64_t>{750, 1500}, {1, 1500}, {1499, 1500}, {3, 4, 700, 1100, 1500}, singles}) {
      const FeatureMoments merged = Merged(all, ends);
      EXPECT_EQ(merged.rows(), 1500);
      ExpectEqual(merged.Mean(), whole.Mean());
      ExpectEqual(merged.Covariance().values, whole.Covariance().values);
      EXPECT_NEAR(merged.Trace() / whole.Trace(), 1, 1e-12);
    }
  }
}

TEST(FeatureMomentsTest, TheSameOrderGivesTheSameBits) {
  const FeatureMatrix all = Gaussian(300, 9, 2, 1, 12);
  EXPECT_EQ(Merged(all, {100, 170, 300}).Covariance().values, Merged(all, {100, 170, 300}).Covariance().values);
}

TEST(FeatureMomentsTest, TheirFrechetDistanceIsTheFeatures) {
  const FeatureMatrix x = Gaussian(90, 12, 0, 1, 13), y = Gaussian(70, 12, 0.5, 2, 14);
  const double whole = ComputeFrechetDistance(x, y)->value;
  const auto merged = ComputeFrechetDistance(Merged(x, {20, 90}), Merged(y, {69, 70}));
  EXPECT_NEAR(merged->value / whole, 1, 1e-12);
  // One part each: the very same arithmetic.
  EXPECT_EQ(ComputeFrechetDistance(*FeatureMoments::Of(x), *FeatureMoments::Of(y))->value, whole);
}

TEST(FeatureMomentsTest, PartsOfTwoNetworksAreRefused) {
  FeatureMoments of_three = FeatureMoments::Of(Gaussian(5, 3, 0, 1, 15)).value();
  const FeatureMoments of_four = FeatureMoments::Of(Gaussian(5, 4, 0, 1, 15)).value();
  EXPECT_THAT(std::string(of_three.Merge(of_four).message()), HasSubstr("3 and 4 columns"));
  EXPECT_THAT(std::string(ComputeFrechetDistance(of_three, of_four).status().message()),
              HasSubstr("5 rows of 3 columns and 5 of 4"));
}

}  // namespace
}  // namespace loupe::analysis::metrics
