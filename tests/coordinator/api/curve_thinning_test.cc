#include "coordinator/api/curve_thinning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace loupe::coordinator::api {
namespace {

using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::pair<int64_t, double>> Points(int64_t count) {
  std::vector<std::pair<int64_t, double>> points;
  for (int64_t step = 1; step <= count; ++step) points.emplace_back(step, std::sin(static_cast<double>(step)));
  return points;
}

TEST(CurveThinningTest, FewPointsStay) {
  const ThinCurve thin = Thin(Points(5), 5);
  EXPECT_THAT(thin.steps, ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(thin.means[2], std::sin(3.0));
  EXPECT_THAT(thin.lows, IsEmpty());
  EXPECT_THAT(thin.highs, IsEmpty());
}

TEST(CurveThinningTest, StretchesHaveMeanAndEnds) {
  const ThinCurve thin = Thin({{0, 1}, {1, 3}, {2, 2}, {3, 4}, {4, 10}, {5, 0}}, 3);
  EXPECT_THAT(thin.steps, ElementsAre(0.5, 2.5, 4.5));
  EXPECT_THAT(thin.means, ElementsAre(2, 3, 5));
  EXPECT_THAT(thin.lows, ElementsAre(1, 2, 0));
  EXPECT_THAT(thin.highs, ElementsAre(3, 4, 10));
}

TEST(CurveThinningTest, NothingLeavesTheEnds) {
  const auto points = Points(10007);
  const ThinCurve thin = Thin(points, 100);
  ASSERT_EQ(thin.steps.size(), 100U);
  double low = 2, high = -2;
  for (const auto& [step, value] : points) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  EXPECT_EQ(*std::min_element(thin.lows.begin(), thin.lows.end()), low);
  EXPECT_EQ(*std::max_element(thin.highs.begin(), thin.highs.end()), high);
  EXPECT_THAT(thin.means, Each(DoubleNear(0, 0.05)));
}

TEST(CurveThinningTest, NoNumberIsLeftOut) {
  const double nan = std::nan("");
  EXPECT_THAT(Thin({{1, nan}, {2, 5}}, 10).steps, ElementsAre(2));
  const ThinCurve thin = Thin({{0, nan}, {1, nan}, {2, nan}, {3, 4}}, 2);
  EXPECT_THAT(thin.means, ElementsAre(4));
}

TEST(CurveThinningTest, StretchesWithoutPointsAreLeftOut) {
  EXPECT_THAT(Thin({{0, 1}, {1, 1}, {1000, 2}}, 2).means, ElementsAre(1, 2));
  EXPECT_THAT(Thin({{0, 1}, {1, 1}, {2, 1}, {1000, 2}, {1001, 3}}, 4).means, ElementsAre(1, 2.5));
}

}  // namespace
}  // namespace loupe::coordinator::api
