#include "worker/kernels/winograd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/worker/kernels/normal_numbers.h"
#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

struct Case {
  int64_t pictures, height, width, in, out;
};

// weights [out, in, 3, 3]; as it is, and as its gradient by the input takes it: channels exchanged, turned by half a
// turn.
WinogradWeights Forward(const std::vector<float>& weights, const Case& c) {
  return {weights.data(), c.out, c.in, {c.in * 9, 9, 3, 1}};
}
WinogradWeights Backward(const std::vector<float>& weights, const Case& c) {
  return {weights.data() + 8, c.in, c.out, {9, c.in * 9, -3, -1}};
}

class WinogradTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (Width() == 0) GTEST_SKIP() << "no kernels for this processor";
    if (!WinogradWeights::Takes(GetParam().in, GetParam().out)) GTEST_SKIP() << "not for this processor's width";
  }
};

// Pictures whose sides are no multiple of a tile's four pixels, and more tiles than pass together.
INSTANTIATE_TEST_SUITE_P(Shapes, WinogradTest,
                         testing::Values(Case{1, 1, 1, 16, 16}, Case{2, 4, 4, 32, 48}, Case{1, 5, 3, 16, 32},
                                         Case{3, 7, 9, 48, 16}, Case{2, 16, 16, 64, 64}, Case{1, 6, 13, 8, 24}),
                         [](const testing::TestParamInfo<Case>& info) {
                           const Case& c = info.param;
                           return std::to_string(c.pictures) + "_of_" + std::to_string(c.height) + "x" +
                                  std::to_string(c.width) + "_from_" + std::to_string(c.in) + "_to_" +
                                  std::to_string(c.out);
                         });

TEST_P(WinogradTest, IsTheConvolutionInDoublePrecision) {
  const Case c = GetParam();
  const auto x = NormalNumbers(c.pictures * c.height * c.width * c.in, 1), weights = NormalNumbers(c.out * c.in * 9, 2),
             bias = NormalNumbers(c.out, 3);
  std::vector<float> y(static_cast<size_t>(c.pictures * c.height * c.width * c.out));
  ConvolveTiles(Forward(weights, c), x.data(), bias.data(), c.height, c.width, 0,
                c.pictures * WinogradTiles(c.height, c.width), y.data());
  const auto at = [](const std::vector<float>& from, int64_t i) {
    return static_cast<double>(from[static_cast<size_t>(i)]);
  };
  double squares = 0;
  for (int64_t p = 0; p < c.pictures; ++p) {
    for (int64_t row = 0; row < c.height; ++row) {
      for (int64_t column = 0; column < c.width; ++column) {
        for (int64_t o = 0; o < c.out; ++o) {
          double expected = at(bias, o);
          for (int64_t dy = 0; dy < 3; ++dy) {
            for (int64_t dx = 0; dx < 3; ++dx) {
              const int64_t from_row = row + dy - 1, from_column = column + dx - 1;
              if (from_row < 0 || from_row >= c.height || from_column < 0 || from_column >= c.width) continue;
              for (int64_t i = 0; i < c.in; ++i) {
                expected += at(x, ((p * c.height + from_row) * c.width + from_column) * c.in + i) *
                            at(weights, (o * c.in + i) * 9 + dy * 3 + dx);
              }
            }
          }
          const double error = at(y, ((p * c.height + row) * c.width + column) * c.out + o) - expected;
          squares += error * error;
        }
      }
    }
  }
  // The sums grow to about 3 √in and are rounded in times, to 2⁻²⁴ of themselves. Measured: 2.6 to 4.3e-7 in.
  const double spread = std::sqrt(squares / static_cast<double>(y.size()));
  EXPECT_LE(spread, 5e-7 * static_cast<double>(c.in));
}

// ⟨conv(x), d⟩ = ⟨x, gradient(d)⟩ for every x and d.
TEST_P(WinogradTest, TheTurnedFiltersGiveTheGradient) {
  const Case c = GetParam();
  const int64_t pixels = c.pictures * c.height * c.width, tiles = c.pictures * WinogradTiles(c.height, c.width);
  const auto x = NormalNumbers(pixels * c.in, 4), d = NormalNumbers(pixels * c.out, 5),
             weights = NormalNumbers(c.out * c.in * 9, 6);
  std::vector<float> y(d.size()), gradient(x.size());
  ConvolveTiles(Forward(weights, c), x.data(), nullptr, c.height, c.width, 0, tiles, y.data());
  ConvolveTiles(Backward(weights, c), d.data(), nullptr, c.height, c.width, 0, tiles, gradient.data());
  double left = 0, right = 0, size = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    left += static_cast<double>(y[i]) * d[i];
    size += std::abs(static_cast<double>(y[i]) * d[i]);
  }
  for (size_t i = 0; i < x.size(); ++i) right += static_cast<double>(gradient[i]) * x[i];
  EXPECT_NEAR(left, right, 1e-6 * size);
}

TEST_P(WinogradTest, ATileAloneHasTheSameBytes) {
  const Case c = GetParam();
  const int64_t tiles = c.pictures * WinogradTiles(c.height, c.width);
  const auto x = NormalNumbers(c.pictures * c.height * c.width * c.in, 7), weights = NormalNumbers(c.out * c.in * 9, 8);
  const WinogradWeights transformed = Forward(weights, c);
  std::vector<float> together(static_cast<size_t>(c.pictures * c.height * c.width * c.out)), alone(together.size());
  ConvolveTiles(transformed, x.data(), nullptr, c.height, c.width, 0, tiles, together.data());
  for (int64_t tile = 0; tile < tiles; ++tile) {
    ConvolveTiles(transformed, x.data(), nullptr, c.height, c.width, tile, tile + 1, alone.data());
  }
  EXPECT_EQ(together, alone);
}

}  // namespace
}  // namespace loupe::worker::kernels
