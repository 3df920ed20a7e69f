// The scorer's layers tell how different pictures are: by its formula over pairs, and its laws.
#include "worker/evaluate/layer_diversity.h"

#include <torch/utils.h>

#include <vector>

#include "gtest/gtest.h"

namespace loupe::worker::evaluate {
namespace {

// Pair by pair, as the formula has it.
double ByPairs(const std::vector<torch::Tensor>& layers) {
  const int64_t n = layers.front().size(0);
  double sum = 0;
  for (const torch::Tensor& layer : layers) {
    const auto u = layer.to(torch::kFloat64) / layer.to(torch::kFloat64).norm(2, {2}, true);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) sum += (u[i] - u[j]).square().sum(-1).mean().item<double>();
    }
  }
  return sum / static_cast<double>(n * (n - 1) * static_cast<int64_t>(layers.size()));
}

TEST(LayerDiversityTest, EqualsTheFormulaOverPairsInAnyParts) {
  torch::manual_seed(3);
  // Two layers of other sizes, five pictures.
  const std::vector<torch::Tensor> all = {torch::randn({5, 4, 8}), torch::randn({5, 2, 16}) + 1};
  LayerDiversity whole, parts;
  whole.Add(all);
  parts.Add({all[0].narrow(0, 0, 2), all[1].narrow(0, 0, 2)});
  parts.Add({all[0].narrow(0, 2, 3), all[1].narrow(0, 2, 3)});
  EXPECT_EQ(parts.pictures(), 5);
  EXPECT_NEAR(whole.Value(), ByPairs(all), 1e-12);
  EXPECT_NEAR(parts.Value(), whole.Value(), 1e-12);
}

TEST(LayerDiversityTest, AlikeIsZeroAndRightAnglesAreTwo) {
  LayerDiversity alike, apart;
  alike.Add(
      {torch::tensor({3.0, 4.0}).view({1, 1, 2}).expand({3, 1, 2}) * torch::tensor({1.0, 2.0, 5.0}).view({3, 1, 1})});
  EXPECT_NEAR(alike.Value(), 0, 1e-15);
  apart.Add({torch::eye(4).view({4, 1, 4})});
  EXPECT_NEAR(apart.Value(), 2, 1e-15);
}

TEST(LayerDiversityTest, OnePictureIsRefused) {
  LayerDiversity one;
  one.Add({torch::ones({1, 1, 2})});
  EXPECT_THROW(one.Value(), c10::Error);
}

}  // namespace
}  // namespace loupe::worker::evaluate
