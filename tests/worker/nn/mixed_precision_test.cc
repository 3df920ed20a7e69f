// Layers under autocast to bfloat16 on a CPU, where some of them take another way than in float32.
#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "gtest/gtest.h"
#include "worker/nn/attention.h"
#include "worker/nn/leaf_layers.h"
#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::nn {
namespace {

at::Generator Random() { return at::make_generator<at::CPUGeneratorImpl>(11); }

struct Pass {
  torch::Tensor output;                  // float32
  std::vector<torch::Tensor> gradients;  // of the inputs and all parameters
};

// Attention from x to the context and back, with the gradients of Σ output · weights.
Pass RunAttention(Attention& attention, bool bfloat16) {
  auto random = Random();
  std::vector<torch::Tensor> leaves = {torch::randn({2, 9, 16}, random).requires_grad_(true),
                                       torch::randn({2, 5, 12}, random).requires_grad_(true)};
  const auto weights = torch::randn({2, 9, 16}, random);
  for (const auto& parameter : attention->parameters()) leaves.push_back(parameter);
  const runtime::AutocastScope scope({torch::kCPU, bfloat16, torch::kBFloat16});
  const auto output = attention(leaves[0], leaves[1]).to(torch::kFloat32);
  return {output.detach(), torch::autograd::grad({(output * weights).sum()}, leaves)};
}

double RelativeError(const torch::Tensor& rounded, const torch::Tensor& exact) {
  return ((rounded - exact).norm() / exact.norm()).item<double>();
}

TEST(MixedPrecisionTest, AttentionInBfloat16HasTheGradientsOfFloat32) {
  Attention attention(16, 12, 4, /*qkv_bias=*/false);
  InitialiseAsTorch(*attention, Random());
  for (auto& parameter : attention->parameters()) parameter.set_requires_grad(true);
  const Pass exact = RunAttention(attention, false), rounded = RunAttention(attention, true);
  // bfloat16 keeps 8 bits, 2⁻⁹ = 0.2 % of rounding per operation, over some ten in a row.
  EXPECT_LT(RelativeError(rounded.output, exact.output), 0.02);
  ASSERT_EQ(rounded.gradients.size(), exact.gradients.size());
  for (size_t i = 0; i < exact.gradients.size(); ++i) {
    EXPECT_EQ(rounded.gradients[i].scalar_type(), torch::kFloat32) << i;
    EXPECT_LT(RelativeError(rounded.gradients[i], exact.gradients[i]), 0.02) << i;
  }
}

TEST(MixedPrecisionTest, AttentionWithoutGradientsIsTheSameFunction) {
  Attention attention(16, 12, 4, /*qkv_bias=*/false);
  InitialiseAsTorch(*attention, Random());
  auto random = Random();
  const auto x = torch::randn({2, 9, 16}, random), context = torch::randn({2, 5, 12}, random);
  const runtime::AutocastScope scope({torch::kCPU, true, torch::kBFloat16});
  const auto with = attention(x.clone().requires_grad_(true), context).to(torch::kFloat32);
  const torch::NoGradGuard no_grad;
  EXPECT_LT(RelativeError(attention(x, context).to(torch::kFloat32), with.detach()), 0.02);
}

TEST(MixedPrecisionTest, GroupNormOfBfloat16IsComputedInFloat32) {
  GroupNorm norm(2, 8, 1e-5);
  InitialiseAsTorch(*norm, Random());
  auto random = Random();
  // Large against its spread: in 8 bits nothing of the differences would be left.
  const auto x = (100 + torch::randn({2, 8, 4, 4}, random)).to(torch::kBFloat16);
  const auto output = norm(x);
  EXPECT_EQ(output.scalar_type(), torch::kFloat32);
  EXPECT_TRUE(output.equal(norm(x.to(torch::kFloat32))));
}

}  // namespace
}  // namespace loupe::worker::nn
