// Group norm and layer norm against the same in double precision, and what a picture or row gives alone.
#include "worker/kernels/norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/worker/kernels/normal_numbers.h"
#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

constexpr float kEps = 1e-5F;

double Largest(const std::vector<float>& numbers, const std::vector<double>& expected) {
  double largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double off = std::abs(numbers[i] - expected[i]);
    if (!(off <= largest)) largest = off;  // NaN too
  }
  return largest;
}

// One group: `places` are where its numbers are, `channels` which weight and bias each has.
struct Group {
  std::vector<size_t> places, channels;
};

struct Expected {
  std::vector<double> y, d_x;
};

Expected InDoubles(const std::vector<Group>& groups, const std::vector<float>& x, const std::vector<float>& weight,
                   const std::vector<float>& bias, const std::vector<float>& d_y, bool silu) {
  Expected expected = {std::vector<double>(x.size()), std::vector<double>(x.size())};
  for (const Group& group : groups) {
    const double count = static_cast<double>(group.places.size());
    double mean = 0, variance = 0, sum = 0, dot = 0;
    for (const size_t i : group.places) mean += x[i] / count;
    for (const size_t i : group.places) variance += (x[i] - mean) * (x[i] - mean) / count;
    const double rstd = 1 / std::sqrt(variance + kEps);
    std::vector<double> d_normal(group.places.size());
    for (size_t j = 0; j < group.places.size(); ++j) {
      const size_t i = group.places[j], c = group.channels[j];
      const double w = weight.empty() ? 1 : weight[c], b = bias.empty() ? 0 : bias[c];
      const double normal = (x[i] - mean) * rstd, z = normal * w + b, s = 1 / (1 + std::exp(-z));
      expected.y[i] = silu ? z * s : z;
      d_normal[j] = w * d_y[i] * (silu ? s + z * s * (1 - s) : 1);
      sum += d_normal[j] / count;
      dot += d_normal[j] * normal / count;
    }
    for (size_t j = 0; j < group.places.size(); ++j) {
      const size_t i = group.places[j];
      expected.d_x[i] = rstd * (d_normal[j] - sum - (x[i] - mean) * rstd * dot);
    }
  }
  return expected;
}

std::vector<Group> GroupsOf(const GroupNormShape& shape) {
  const int64_t per_group = shape.channels / shape.groups;
  std::vector<Group> groups(static_cast<size_t>(shape.pictures * shape.groups));
  for (int64_t picture = 0; picture < shape.pictures; ++picture) {
    for (int64_t pixel = 0; pixel < shape.pixels; ++pixel) {
      for (int64_t c = 0; c < shape.channels; ++c) {
        Group& group = groups[static_cast<size_t>(picture * shape.groups + c / per_group)];
        group.places.push_back(static_cast<size_t>((picture * shape.pixels + pixel) * shape.channels + c));
        group.channels.push_back(static_cast<size_t>(c));
      }
    }
  }
  return groups;
}

std::vector<Group> GroupsOfRows(int64_t rows, int64_t columns) {
  return GroupsOf({.pictures = rows, .pixels = 1, .channels = columns, .groups = 1});
}

struct Results {
  std::vector<float> y, d_x, mean, rstd;
};

const float* OrNull(const std::vector<float>& numbers) { return numbers.empty() ? nullptr : numbers.data(); }

Results RunGroupNorm(const GroupNormShape& shape, const float* x, const std::vector<float>& weight,
                     const std::vector<float>& bias, const float* d_y, AfterNorm after) {
  const size_t size = static_cast<size_t>(shape.pictures * shape.pixels * shape.channels),
               groups = static_cast<size_t>(shape.pictures * shape.groups);
  Results results = {std::vector<float>(size), std::vector<float>(size), std::vector<float>(groups),
                     std::vector<float>(groups)};
  GroupNorm(shape, x, OrNull(weight), OrNull(bias), kEps, after, results.y.data(), results.mean.data(),
            results.rstd.data());
  GroupNormGradient(shape, d_y, x, results.mean.data(), results.rstd.data(), OrNull(weight), OrNull(bias), after,
                    results.d_x.data());
  return results;
}

Results RunLayerNorm(int64_t rows, int64_t columns, const float* x, const std::vector<float>& weight,
                     const std::vector<float>& bias, const float* d_y) {
  const size_t size = static_cast<size_t>(rows * columns), count = static_cast<size_t>(rows);
  Results results = {std::vector<float>(size), std::vector<float>(size), std::vector<float>(count),
                     std::vector<float>(count)};
  LayerNorm(x, rows, columns, OrNull(weight), OrNull(bias), kEps, results.y.data(), results.mean.data(),
            results.rstd.data());
  LayerNormGradient(d_y, x, rows, columns, results.mean.data(), results.rstd.data(), OrNull(weight),
                    results.d_x.data());
  return results;
}

class NormTest : public testing::Test {
 protected:
  void SetUp() override {
    if (Width() == 0) GTEST_SKIP() << "no kernels for this processor";
  }
};

// Channels per group that do and do not fill vectors, and rests of pixels and of channels.
const GroupNormShape kGroupShapes[] = {{2, 256, 64, 16}, {2, 64, 96, 16}, {3, 16, 160, 16}, {2, 16, 320, 16},
                                       {1, 64, 256, 16}, {2, 49, 20, 2},  {3, 5, 7, 7},     {2, 11, 30, 5},
                                       {1, 1, 32, 4},    {2, 100, 3, 1},  {1, 257, 64, 2},  {2, 16, 16, 16}};

std::string NameOf(const GroupNormShape& shape) {
  return std::to_string(shape.pictures) + " x " + std::to_string(shape.pixels) + " x " +
         std::to_string(shape.channels) + " in " + std::to_string(shape.groups);
}

TEST_F(NormTest, GroupNormIsThatOfDoubles) {
  for (const GroupNormShape& shape : kGroupShapes) {
    const int64_t size = shape.pictures * shape.pixels * shape.channels;
    const auto x = NormalNumbers(size, 1, 0.3, 2), d_y = NormalNumbers(size, 2),
               weight = NormalNumbers(shape.channels, 3, 1, 0.3), bias = NormalNumbers(shape.channels, 4, 0, 0.3);
    for (const AfterNorm after : {AfterNorm::kNothing, AfterNorm::kSilu}) {
      SCOPED_TRACE(NameOf(shape) + (after == AfterNorm::kSilu ? " and SiLU" : ""));
      const Expected expected = InDoubles(GroupsOf(shape), x, weight, bias, d_y, after == AfterNorm::kSilu);
      const Results results = RunGroupNorm(shape, x.data(), weight, bias, d_y.data(), after);
      // Numbers up to 6, a few roundings of 6e-8 each.
      EXPECT_LT(Largest(results.y, expected.y), 3e-6);
      EXPECT_LT(Largest(results.d_x, expected.d_x), 3e-6);
      const Expected plain = InDoubles(GroupsOf(shape), x, {}, {}, d_y, after == AfterNorm::kSilu);
      const Results without = RunGroupNorm(shape, x.data(), {}, {}, d_y.data(), after);
      EXPECT_LT(Largest(without.y, plain.y), 3e-6);
      EXPECT_LT(Largest(without.d_x, plain.d_x), 3e-6);
    }
  }
}

TEST_F(NormTest, GroupNormOfNumbersFarFromZero) {
  for (const GroupNormShape& shape : kGroupShapes) {
    if (shape.pixels == 1) continue;
    SCOPED_TRACE(NameOf(shape));
    const int64_t size = shape.pictures * shape.pixels * shape.channels;
    const auto x = NormalNumbers(size, 5, 1000, 1), d_y = NormalNumbers(size, 6);
    const Expected expected = InDoubles(GroupsOf(shape), x, {}, {}, d_y, true);
    const Results results = RunGroupNorm(shape, x.data(), {}, {}, d_y.data(), AfterNorm::kSilu);
    EXPECT_LT(Largest(results.y, expected.y), 5e-6);
    EXPECT_LT(Largest(results.d_x, expected.d_x), 5e-4) << "the mean is kept to 3e-5, the least spread is a tenth";
  }
}

// The number that the sums are about at first lies a thousand standard deviations off.
TEST_F(NormTest, GroupNormWithAnOutlierInFront) {
  const GroupNormShape shape = {.pictures = 2, .pixels = 256, .channels = 64, .groups = 4};
  auto x = NormalNumbers(int64_t{2} * 256 * 64, 7, 50, 1);
  const auto d_y = NormalNumbers(int64_t{2} * 256 * 64, 8);
  x[0] = 1e4F;
  x[size_t{256} * 64 + 16] = -1e4F;
  const Expected expected = InDoubles(GroupsOf(shape), x, {}, {}, d_y, false);
  const Results results = RunGroupNorm(shape, x.data(), {}, {}, d_y.data(), AfterNorm::kNothing);
  EXPECT_LT(Largest(results.y, expected.y), 64 * 1e-6) << "the largest number is 64";
  EXPECT_LT(Largest(results.d_x, expected.d_x), 1e-5);
}

TEST_F(NormTest, GroupsOfOneValueGiveTheBias) {
  const GroupNormShape shape = {.pictures = 1, .pixels = 16, .channels = 8, .groups = 2};
  const std::vector<float> x(128, 1234.567F), bias = NormalNumbers(8, 9);
  const Results results = RunGroupNorm(shape, x.data(), {}, bias, x.data(), AfterNorm::kNothing);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(results.y[i], bias[i % 8]);
}

TEST_F(NormTest, APictureAloneGivesTheSameBytes) {
  for (const GroupNormShape& shape : kGroupShapes) {
    SCOPED_TRACE(NameOf(shape));
    const int64_t picture = shape.pixels * shape.channels, size = shape.pictures * picture;
    auto x = NormalNumbers(size, 10, 3, 2);
    x[0] = 1e4F;  // one that needs its sums again, among others that do not
    const auto d_y = NormalNumbers(size, 11), weight = NormalNumbers(shape.channels, 12),
               bias = NormalNumbers(shape.channels, 13);
    for (const AfterNorm after : {AfterNorm::kNothing, AfterNorm::kSilu}) {
      const Results all = RunGroupNorm(shape, x.data(), weight, bias, d_y.data(), after);
      for (int64_t i = 0; i < shape.pictures; ++i) {
        const Results one = RunGroupNorm({1, shape.pixels, shape.channels, shape.groups}, x.data() + i * picture,
                                         weight, bias, d_y.data() + i * picture, after);
        EXPECT_TRUE(std::equal(one.y.begin(), one.y.end(), all.y.begin() + i * picture));
        EXPECT_TRUE(std::equal(one.d_x.begin(), one.d_x.end(), all.d_x.begin() + i * picture));
      }
    }
  }
}

TEST_F(NormTest, GroupNormInPlaceAndWithoutItsMoments) {
  const GroupNormShape shape = {.pictures = 2, .pixels = 21, .channels = 28, .groups = 7};
  const int64_t size = int64_t{2} * 21 * 28;
  const auto x = NormalNumbers(size, 14), d_y = NormalNumbers(size, 15), weight = NormalNumbers(28, 16),
             bias = NormalNumbers(28, 17);
  for (const AfterNorm after : {AfterNorm::kNothing, AfterNorm::kSilu}) {
    const Results results = RunGroupNorm(shape, x.data(), weight, bias, d_y.data(), after);
    auto y = x, d_x = d_y;
    GroupNorm(shape, y.data(), weight.data(), bias.data(), kEps, after, y.data(), nullptr, nullptr);
    GroupNormGradient(shape, d_x.data(), x.data(), results.mean.data(), results.rstd.data(), weight.data(), bias.data(),
                      after, d_x.data());
    EXPECT_EQ(y, results.y);
    EXPECT_EQ(d_x, results.d_x);
  }
}

constexpr int64_t kRowShapes[][2] = {{33, 64}, {10, 96}, {7, 160}, {5, 8}, {9, 72}, {6, 24}, {3, 13}, {5, 1280}};

TEST_F(NormTest, LayerNormIsThatOfDoubles) {
  for (const auto& [rows, columns] : kRowShapes) {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns));
    const auto d_y = NormalNumbers(rows * columns, 20), weight = NormalNumbers(columns, 21, 1, 0.3),
               bias = NormalNumbers(columns, 22, 0, 0.3);
    const auto x = NormalNumbers(rows * columns, 23, 0.3, 2), far = NormalNumbers(rows * columns, 24, 1000, 1);
    const auto groups = GroupsOfRows(rows, columns);
    Expected expected = InDoubles(groups, x, weight, bias, d_y, false);
    Results results = RunLayerNorm(rows, columns, x.data(), weight, bias, d_y.data());
    EXPECT_LT(Largest(results.y, expected.y), 3e-6);
    EXPECT_LT(Largest(results.d_x, expected.d_x), 3e-6);
    expected = InDoubles(groups, far, {}, {}, d_y, false);
    results = RunLayerNorm(rows, columns, far.data(), {}, {}, d_y.data());
    EXPECT_LT(Largest(results.y, expected.y), 5e-6);
    EXPECT_LT(Largest(results.d_x, expected.d_x), 5e-4) << "the mean is kept to 3e-5, the least spread is a tenth";
  }
}

TEST_F(NormTest, ARowAloneGivesTheSameBytes) {
  for (const auto& [rows, columns] : kRowShapes) {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns));
    const auto x = NormalNumbers(rows * columns, 25, 3, 2), d_y = NormalNumbers(rows * columns, 26),
               weight = NormalNumbers(columns, 27), bias = NormalNumbers(columns, 28);
    const Results all = RunLayerNorm(rows, columns, x.data(), weight, bias, d_y.data());
    for (int64_t i = 0; i < rows; ++i) {
      const Results one = RunLayerNorm(1, columns, x.data() + i * columns, weight, bias, d_y.data() + i * columns);
      EXPECT_TRUE(std::equal(one.y.begin(), one.y.end(), all.y.begin() + i * columns));
      EXPECT_TRUE(std::equal(one.d_x.begin(), one.d_x.end(), all.d_x.begin() + i * columns));
      EXPECT_EQ(one.mean[0], all.mean[static_cast<size_t>(i)]);
      EXPECT_EQ(one.rstd[0], all.rstd[static_cast<size_t>(i)]);
    }
  }
}

TEST_F(NormTest, LayerNormInPlaceAndWithoutItsMoments) {
  const auto x = NormalNumbers(int64_t{9} * 72, 29), d_y = NormalNumbers(int64_t{9} * 72, 30),
             weight = NormalNumbers(72, 31), bias = NormalNumbers(72, 32);
  const Results results = RunLayerNorm(9, 72, x.data(), weight, bias, d_y.data());
  auto y = x, d_x = d_y;
  LayerNorm(y.data(), 9, 72, weight.data(), bias.data(), kEps, y.data(), nullptr, nullptr);
  LayerNormGradient(d_x.data(), x.data(), 9, 72, results.mean.data(), results.rstd.data(), weight.data(), d_x.data());
  EXPECT_EQ(y, results.y);
  EXPECT_EQ(d_x, results.d_x);
}

}  // namespace
}  // namespace loupe::worker::kernels
