// Where places are, at the trained size and at others.
#include "worker/nn/patch_embed.h"

#include <torch/torch.h>

#include "gtest/gtest.h"

namespace loupe::worker::nn {
namespace {

TEST(GridPositionsTest, ColumnsThenRowsAsSinesAndCosines) {
  // Width 8: two frequencies, 1 and 1/100, of each coordinate.
  const auto places = GridPositions(2, 3, 8, 2, 3, PositionScaling::kTrainedRange);
  const double column = 2, row = 1;
  const auto wanted = torch::tensor({std::sin(column), std::sin(column / 100), std::cos(column), std::cos(column / 100),
                                     std::sin(row), std::sin(row / 100), std::cos(row), std::cos(row / 100)});
  EXPECT_TRUE(torch::allclose(places[1 * 3 + 2], wanted.to(torch::kFloat32), 0, 1e-7));
}

TEST(GridPositionsTest, TwiceTheSizeHalvesStretchedCoordinates) {
  const auto trained = GridPositions(4, 4, 16, 4, 4, PositionScaling::kTrainedRange);
  const auto stretched = GridPositions(8, 8, 16, 4, 4, PositionScaling::kTrainedRange).view({8, 8, 16});
  const auto counted = GridPositions(8, 8, 16, 4, 4, PositionScaling::kCounted).view({8, 8, 16});
  const auto grid = trained.view({4, 4, 16});
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t column = 0; column < 4; ++column) {
      EXPECT_TRUE(torch::allclose(stretched[2 * row][2 * column], grid[row][column], 0, 1e-6));
      EXPECT_TRUE(counted[row][column].equal(grid[row][column]));
    }
  }
  EXPECT_FALSE(torch::allclose(stretched[1][1], grid[1][1], 0, 1e-2));
}

}  // namespace
}  // namespace loupe::worker::nn
