#include "worker/kernels/packed_gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/worker/kernels/normal_numbers.h"
#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

class PackedGemmTest : public testing::Test {
 protected:
  void SetUp() override {
    if (Width() == 0) GTEST_SKIP() << "no kernels for this processor";
  }
};

// [rows, k, n]: every remainder of the six rows and two vectors of a tile.
constexpr std::array<std::array<int64_t, 3>, 9> kShapes = {{{1, 1, 1},
                                                            {2, 3, 5},
                                                            {5, 64, 16},
                                                            {6, 7, 33},
                                                            {7, 16, 48},
                                                            {13, 100, 31},
                                                            {64, 320, 160},
                                                            {77, 128, 17},
                                                            {200, 9, 8}}};

TEST_F(PackedGemmTest, IsTheProductInDoublePrecision) {
  for (const auto& [rows, k, n] : kShapes) {
    const auto a = NormalNumbers(rows * (k + 3), 1), b = NormalNumbers(k * n, 2), bias = NormalNumbers(n, 3);
    // As it lies, and transposed.
    for (const bool transposed : {false, true}) {
      const PackedMatrix packed(b.data(), k, n, transposed ? 1 : n, transposed ? k : 1);
      for (const bool with_bias : {false, true}) {
        // Rows farther apart than they are long; what lies between is not written to.
        std::vector<float> c(static_cast<size_t>(rows * (n + 2)), 7.0F);
        Multiply(a.data(), k + 3, rows, packed, with_bias ? bias.data() : nullptr, c.data(), n + 2);
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            double expected = with_bias ? bias[static_cast<size_t>(j)] : 0;
            for (int64_t x = 0; x < k; ++x) {
              expected += static_cast<double>(a[static_cast<size_t>(i * (k + 3) + x)]) *
                          b[static_cast<size_t>(transposed ? j * k + x : x * n + j)];
            }
            // A sum of k products of normal numbers grows to about √k, and is rounded k times, to 2⁻²⁴ of itself: about
            // k of them if all went one way. Measured: 1.3e-7 k.
            ASSERT_NEAR(c[static_cast<size_t>(i * (n + 2) + j)], expected, 3e-7 * static_cast<double>(k + 10))
                << rows << " x " << k << " x " << n << " at " << i << ", " << j;
          }
          EXPECT_EQ(c[static_cast<size_t>(i * (n + 2) + n)], 7.0F);
        }
      }
    }
  }
}

TEST_F(PackedGemmTest, ARowAloneHasTheSameBytes) {
  for (const auto& [rows, k, n] : kShapes) {
    const auto a = NormalNumbers(rows * k, 4), b = NormalNumbers(k * n, 5), bias = NormalNumbers(n, 6);
    const PackedMatrix packed(b.data(), k, n, n, 1);
    std::vector<float> together(static_cast<size_t>(rows * n)), alone(static_cast<size_t>(n));
    Multiply(a.data(), k, rows, packed, bias.data(), together.data(), n);
    for (int64_t i = 0; i < rows; ++i) {
      Multiply(a.data() + i * k, k, 1, packed, bias.data(), alone.data(), n);
      ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + i * n)) << rows << " x " << k << " x " << n;
    }
  }
}

}  // namespace
}  // namespace loupe::worker::kernels
