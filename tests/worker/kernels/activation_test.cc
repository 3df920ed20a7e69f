// Activations and their gradients against the same in double precision, and what part of an array gives alone.
#include "worker/kernels/activation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "tests/worker/kernels/normal_numbers.h"
#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

constexpr Activation kKinds[] = {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh};

double ValueInDoubles(Activation kind, double x) {
  switch (kind) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return x * std::erfc(-x / std::numbers::sqrt2) / 2;
    case Activation::kGeluTanh:
      return x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x))) / 2;
  }
  return 0;
}

double SlopeInDoubles(Activation kind, double x) {
  switch (kind) {
    case Activation::kSilu: {
      const double s = 1 / (1 + std::exp(-x));
      return s + x * s * (1 - s);
    }
    case Activation::kGelu:
      return std::erfc(-x / std::numbers::sqrt2) / 2 + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    case Activation::kGeluTanh: {
      const double k = std::sqrt(2 / std::numbers::pi), t = std::tanh(k * (x + 0.044715 * x * x * x));
      return (1 + t) / 2 + x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x) / 2;
    }
  }
  return 0;
}

class ActivationTest : public testing::Test {
 protected:
  void SetUp() override {
    if (Width() == 0) GTEST_SKIP() << "no kernels for this processor";
  }
};

TEST_F(ActivationTest, EachIsThatOfDoubles) {
  std::vector<float> x;
  for (int i = -13000; i <= 13000; ++i) x.push_back(static_cast<float>(i) / 1000.0F);
  for (const float far : {1e-30F, 20.0F, 88.0F, 100.0F, 1e4F, 1e10F}) {
    x.push_back(far);
    x.push_back(-far);
  }
  const std::vector<float> ones(x.size(), 1.0F);
  std::vector<float> y(x.size()), slope(x.size());
  for (const Activation kind : kKinds) {
    SCOPED_TRACE(static_cast<int>(kind));
    Activate(kind, x.data(), static_cast<int64_t>(x.size()), y.data());
    ActivateGradient(kind, ones.data(), x.data(), static_cast<int64_t>(x.size()), slope.data());
    double worst = 0, worst_slope = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double off = std::abs(y[i] - ValueInDoubles(kind, x[i])) / std::max(1.0, std::abs(double{x[i]}));
      const double slope_off = std::abs(slope[i] - SlopeInDoubles(kind, x[i]));
      if (!(off <= worst)) worst = off;  // NaN too
      if (!(slope_off <= worst_slope)) worst_slope = slope_off;
    }
    EXPECT_LT(worst, 5e-7);
    EXPECT_LT(worst_slope, 1e-6);
  }
}

TEST_F(ActivationTest, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), one = 1;
  for (const Activation kind : kKinds) {
    float y = 0, d_x = 0;
    Activate(kind, &nan, 1, &y);
    ActivateGradient(kind, &one, &nan, 1, &d_x);
    EXPECT_TRUE(std::isnan(y));
    EXPECT_TRUE(std::isnan(d_x));
  }
}

TEST_F(ActivationTest, PartOfAnArrayGivesTheSameBytes) {
  const auto x = NormalNumbers(100, 1, 0, 2), d_y = NormalNumbers(100, 2, 0, 1);
  std::vector<float> y(100), d_x(100);
  for (const Activation kind : kKinds) {
    Activate(kind, x.data(), 100, y.data());
    ActivateGradient(kind, d_y.data(), x.data(), 100, d_x.data());
    for (int64_t first = 0; first < 100; first += 13) {
      for (int64_t count = 1; first + count <= 100; count += 6) {
        std::vector<float> own(x.begin() + first, x.begin() + first + count), d_own(static_cast<size_t>(count));
        ActivateGradient(kind, d_y.data() + first, own.data(), count, d_own.data());
        Activate(kind, own.data(), count, own.data());
        EXPECT_TRUE(std::equal(own.begin(), own.end(), y.begin() + first));
        EXPECT_TRUE(std::equal(d_own.begin(), d_own.end(), d_x.begin() + first));
      }
    }
  }
}

constexpr int64_t kGegluShapes[][2] = {{33, 256}, {12, 384}, {5, 640}, {3, 40}, {4, 13}, {2, 3}};

TEST_F(ActivationTest, GegluIsThatOfDoubles) {
  for (const auto& [rows, columns] : kGegluShapes) {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns));
    const auto in = NormalNumbers(rows * 2 * columns, 3, 0, 2), d_out = NormalNumbers(rows * columns, 4, 0, 1);
    std::vector<float> out(d_out.size()), d_in(in.size());
    Geglu(in.data(), rows, columns, out.data());
    GegluGradient(d_out.data(), in.data(), rows, columns, d_in.data());
    double worst = 0;
    const auto compare = [&](float number, double expected) {
      const double off = std::abs(number - expected) / std::max(1.0, std::abs(expected));
      if (!(off <= worst)) worst = off;
    };
    for (int64_t row = 0; row < rows; ++row) {
      const float *const a = in.data() + row * 2 * columns, *const g = a + columns;
      const float *const d_a = d_in.data() + row * 2 * columns, *const d_g = d_a + columns;
      for (int64_t i = 0; i < columns; ++i) {
        const double gelu = ValueInDoubles(Activation::kGelu, g[i]), d = d_out[static_cast<size_t>(row * columns + i)];
        compare(out[static_cast<size_t>(row * columns + i)], a[i] * gelu);
        compare(d_a[i], d * gelu);
        compare(d_g[i], d * a[i] * SlopeInDoubles(Activation::kGelu, g[i]));
      }
    }
    EXPECT_LT(worst, 4e-6) << "a and d of up to 8, times 5e-7";
  }
}

TEST_F(ActivationTest, GegluOfARowAloneGivesTheSameBytes) {
  for (const auto& [rows, columns] : kGegluShapes) {
    const auto in = NormalNumbers(rows * 2 * columns, 5, 0, 2), d_out = NormalNumbers(rows * columns, 6, 0, 1);
    std::vector<float> out(d_out.size()), d_in(in.size());
    Geglu(in.data(), rows, columns, out.data());
    GegluGradient(d_out.data(), in.data(), rows, columns, d_in.data());
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t first = row * 2 * columns;
      std::vector<float> own(in.begin() + first, in.begin() + first + 2 * columns);
      std::vector<float> own_out(static_cast<size_t>(columns));
      Geglu(own.data(), 1, columns, own_out.data());
      GegluGradient(d_out.data() + row * columns, own.data(), 1, columns, own.data());
      EXPECT_TRUE(std::equal(own_out.begin(), own_out.end(), out.begin() + row * columns));
      EXPECT_TRUE(std::equal(own.begin(), own.end(), d_in.begin() + first));
    }
  }
}

}  // namespace
}  // namespace loupe::worker::kernels
