// Layers under autocast to bfloat16 on a CPU, where some of them take another way than in float32.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/autograd.h>

#include <initializer_list>
#include <memory>
#include <string_view>
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

// How many casts to 16 bits of tensors of so many numbers `work` makes.
template <typename Work>
int64_t CastsOf(int64_t numbers, const Work& work) {
  thread_local int64_t casts, wanted;
  casts = 0;
  wanted = numbers;
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& call) -> std::unique_ptr<at::ObserverContext> {
        if (std::string_view(call.name()) != "aten::_to_copy" || call.inputs().empty()) return nullptr;
        const c10::IValue& input = call.inputs()[0];
        if (input.isTensor() && input.toTensor().numel() == wanted) ++casts;
        return nullptr;
      }).needsInputs(true));
  work();
  at::removeCallback(handle);
  return casts;
}

TEST(MixedPrecisionTest, AFrozenWeightIsCastOnce) {
  auto random = Random();
  Linear linear(24, 17);
  Conv2d conv(6, 11, 3, 1, 1), halving(6, 11, 3, 2, 1), per_pixel(6, 11, 1);
  for (auto* module : std::initializer_list<torch::nn::Module*>{&*linear, &*conv, &*halving, &*per_pixel}) {
    InitialiseAsTorch(*module, random);
  }
  const auto rows = torch::randn({3, 24}, random);
  const auto picture = torch::randn({2, 6, 8, 8}, random).contiguous(at::MemoryFormat::ChannelsLast);
  const runtime::AutocastScope scope({torch::kCPU, true, torch::kBFloat16});
  const auto check = [&](LeafLayer& layer, const torch::Tensor& x, const auto& forward) {
    // A pass with a gradient of the weight is cast by LibTorch itself.
    layer.weight.set_requires_grad(true);
    const torch::Tensor expected = forward(x).detach();
    layer.weight.set_requires_grad(false);
    torch::Tensor first, second;
    EXPECT_EQ(CastsOf(layer.weight.numel(), [&] { first = forward(x); }), 1);
    EXPECT_EQ(CastsOf(layer.weight.numel(), [&] { second = forward(x); }), 0);
    EXPECT_TRUE(torch::equal(first, expected) && torch::equal(second, expected)) << "the same bytes";
    // Written to, it is cast anew.
    layer.weight.mul_(2);
    EXPECT_EQ(CastsOf(layer.weight.numel(), [&] { second = forward(x); }), 1);
    EXPECT_FALSE(torch::equal(second, first));
    // And in float32 it is what it is.
    const runtime::AutocastScope plain({torch::kCPU, false, torch::kBFloat16});
    EXPECT_EQ(forward(x).scalar_type(), torch::kFloat32);
  };
  check(*linear, rows, [&](const torch::Tensor& x) { return linear(x); });
  for (Conv2d* layer : {&conv, &halving, &per_pixel}) {
    check(**layer, picture, [&](const torch::Tensor& x) { return (*layer)(x); });
  }
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
