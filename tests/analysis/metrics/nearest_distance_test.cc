// Distances to the nearest training picture, and what they would be without copying.
#include "analysis/metrics/nearest_distance.h"

#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/metrics/features.h"

namespace loupe::analysis::metrics {
namespace {

using ::testing::HasSubstr;

// `copies` of `from`'s first rows, at other lengths and turned a little.
FeatureMatrix NearCopies(const FeatureMatrix& from, int64_t copies) {
  FeatureMatrix near = Rows(from, 0, copies);
  const FeatureMatrix noise = Gaussian(copies, from.cols, 0, 0.05, 99);
  for (size_t i = 0; i < near.values.size(); ++i) near.values[i] = 3 * (near.values[i] + noise.values[i]);
  return near;
}

NearestDistance Compared(const FeatureMatrix& generated, const FeatureMatrix& training, const FeatureMatrix& held_out) {
  return CompareNearest(NearestRows(generated, training).value(), NearestRows(held_out, training).value()).value();
}

TEST(NearestDistanceTest, NearestRowsAreByAngle) {
  // From (1, 0): (0, 5) is a quarter turn away, (9, 9) an eighth.
  const auto nearest = NearestRows({1, 2, {1, 0}}, {3, 2, {0, 5, 9, 9, -1, 0}}).value();
  EXPECT_EQ(nearest[0].row, 1);
  EXPECT_NEAR(nearest[0].distance, std::sqrt(2 - std::sqrt(2.0)), 1e-15);
}

TEST(NearestDistanceTest, ARowIsNotItsOwnNearestOther) {
  const FeatureMatrix x{3, 2, {1, 0, 0, 1, 2, 0}};  // the third is the first, longer
  const auto others = NearestOtherRows(x).value();
  EXPECT_EQ(others[0].row, 2);
  EXPECT_EQ(others[0].distance, 0);
  EXPECT_EQ(others[2].row, 0);
  EXPECT_NEAR(others[1].distance, std::sqrt(2.0), 1e-15);
  // More rows than are taken at a time find the same as pair by pair.
  const FeatureMatrix many = Gaussian(1030, 4, 0, 1, 5);
  const auto of_many = NearestOtherRows(many).value();
  const auto of_last = NearestRows(Rows(many, 1029, 1030), Rows(many, 0, 1029)).value();
  EXPECT_EQ(of_many[1029].row, of_last[0].row);
}

TEST(NearestDistanceTest, NewPicturesHaveARatioNearOne) {
  const FeatureMatrix all = Gaussian(600, 8, 0, 1, 6);
  const NearestDistance found = Compared(Rows(all, 0, 150), Rows(all, 300, 600), Rows(all, 150, 300));
  EXPECT_NEAR(found.ratio, 1, 3 * found.ratio_error);
  EXPECT_NEAR(found.nearer, 0.5, 0.1);
  EXPECT_GT(found.ratio_error, 0);
  EXPECT_EQ(found.warning, "");
  EXPECT_DOUBLE_EQ(found.ratio, found.generated / found.expected);
}

TEST(NearestDistanceTest, CopiesHaveARatioNearZero) {
  const FeatureMatrix all = Gaussian(600, 8, 0, 1, 6), training = Rows(all, 300, 600);
  const NearestDistance found = Compared(NearCopies(training, 100), training, Rows(all, 150, 300));
  EXPECT_LT(found.ratio, 0.15);
  EXPECT_GT(found.nearer, 0.99);
  // Without held-out pictures the training pictures tell it themselves.
  const auto own =
      CompareNearest(NearestRows(NearCopies(training, 100), training).value(), NearestOtherRows(training).value());
  EXPECT_LT(own->ratio, 0.15);
}

TEST(NearestDistanceTest, TiesCountHalf) {
  const std::vector<NearestRow> generated = {{0, 1.0}, {0, 2.0}}, expected = {{0, 2.0}, {0, 3.0}};
  EXPECT_DOUBLE_EQ(CompareNearest(generated, expected)->nearer, (1 + 1 + 0.5 + 1) / 4);
}

TEST(NearestDistanceTest, FewPicturesAreSaid) {
  const FeatureMatrix all = Gaussian(60, 8, 0, 1, 7);
  EXPECT_THAT(Compared(Rows(all, 0, 12), Rows(all, 30, 60), Rows(all, 12, 15)).warning,
              HasSubstr("12 generated and 3 other pictures"));
}

TEST(NearestDistanceTest, DoublesAmongThoseThatAreNoneAreRefused) {
  const FeatureMatrix x = Gaussian(5, 4, 0, 1, 8);
  const auto own = NearestRows(x, x).value();
  EXPECT_THAT(std::string(CompareNearest(own, own).status().message()), HasSubstr("twin among the training pictures"));
  EXPECT_THAT(std::string(CompareNearest({}, own).status().message()), HasSubstr("0 generated and 5"));
}

}  // namespace
}  // namespace loupe::analysis::metrics
