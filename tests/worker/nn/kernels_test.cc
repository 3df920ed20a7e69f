// Layers by the kernels of worker/kernels beside LibTorch's operators in double precision: values, gradients, and when
// which of them are used.
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "worker/nn/attention.h"
#include "worker/nn/kernel_functions.h"
#include "worker/nn/kernels_take.h"
#include "worker/nn/leaf_layers.h"
#include "worker/runtime/random_stream.h"

namespace loupe::worker::nn {
namespace {

using Compute = std::function<torch::Tensor(const std::vector<torch::Tensor>&)>;

// The largest difference in terms of the largest number.
double Difference(const torch::Tensor& found, const torch::Tensor& expected) {
  return (found.to(torch::kFloat64) - expected).abs().max().item<double>() /
         std::max(1.0, expected.abs().max().item<double>());
}

// `ours` on float32 inputs beside `theirs` on the same in float64: the result, and the gradient of each input by a
// random weighting of the result.
void ExpectSame(const Compute& ours, const Compute& theirs, const std::vector<torch::Tensor>& inputs,
                double tolerance) {
  std::vector<torch::Tensor> narrow, wide;
  for (const torch::Tensor& input : inputs) {
    narrow.push_back(input.clone().requires_grad_());
    wide.push_back(input.to(torch::kFloat64).requires_grad_());
  }
  const torch::Tensor found = ours(narrow), expected = theirs(wide);
  ASSERT_EQ(found.sizes(), expected.sizes());
  ASSERT_EQ(found.scalar_type(), torch::kFloat32);
  EXPECT_LE(Difference(found, expected), tolerance);
  runtime::RandomStream stream(9);
  const torch::Tensor weighting = stream.Normal(found.sizes().vec());
  (found * weighting).sum().backward();
  (expected * weighting.to(torch::kFloat64)).sum().backward();
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LE(Difference(narrow[i].grad(), wide[i].grad()), tolerance) << "gradient " << i;
  }
}

torch::Tensor Drawn(const std::vector<int64_t>& shape, uint64_t seed) {
  runtime::RandomStream stream(seed);
  return stream.Normal(shape);
}

torch::Tensor ChannelsLast(const torch::Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

class KernelsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (kernels::Width() == 0) GTEST_SKIP() << "no kernels for this processor";
    runtime::RandomStream stream(1);
    InitialiseAsTorch(*linear_, stream.generator());
    InitialiseAsTorch(*convolution_, stream.generator());
    InitialiseAsTorch(*per_pixel_, stream.generator());
  }

  Linear linear_{48, 80};
  Conv2d convolution_{32, 64, /*kernel=*/3, /*stride=*/1, /*padding=*/1};
  Conv2d per_pixel_{32, 48, /*kernel=*/1};
};

// float32 rounding of sums of a few hundred products of numbers of order 1; a Winograd convolution's is about twice the
// direct one's.
constexpr double kRounding = 3e-6;

TEST_F(KernelsTest, FrozenLayersAreLibTorchs) {
  const auto wide = [](const torch::Tensor& x) { return x.to(torch::kFloat64); };
  ExpectSame([&](const auto& in) { return linear_(in[0]); },
             [&](const auto& in) { return torch::linear(in[0], wide(linear_->weight), wide(linear_->bias)); },
             {Drawn({3, 77, 48}, 2)}, kRounding);
  ExpectSame(
      [&](const auto& in) { return convolution_(ChannelsLast(in[0])); },
      [&](const auto& in) { return torch::conv2d(in[0], wide(convolution_->weight), wide(convolution_->bias), 1, 1); },
      {Drawn({3, 32, 11, 16}, 3)}, kRounding);
  ExpectSame([&](const auto& in) { return per_pixel_(ChannelsLast(in[0])); },
             [&](const auto& in) { return torch::conv2d(in[0], wide(per_pixel_->weight), wide(per_pixel_->bias)); },
             {Drawn({3, 32, 6, 5}, 4)}, kRounding);
}

// A method's own bias (BitFit's) on the frozen weight.
TEST_F(KernelsTest, ABiasCanBeTrained) {
  const auto wide = [](const torch::Tensor& x) { return x.to(torch::kFloat64); };
  ExpectSame([&](const auto& in) { return linear_->Apply(in[0], linear_->weight, in[1]); },
             [&](const auto& in) { return torch::linear(in[0], wide(linear_->weight), in[1]); },
             {Drawn({5, 7, 48}, 5), Drawn({80}, 6)}, kRounding);
  ExpectSame([&](const auto& in) { return convolution_->Apply(ChannelsLast(in[0]), convolution_->weight, in[1]); },
             [&](const auto& in) { return torch::conv2d(in[0], wide(convolution_->weight), in[1], 1, 1); },
             {Drawn({2, 32, 8, 8}, 7), Drawn({64}, 8)}, kRounding);
}

TEST_F(KernelsTest, AWeightThatChangesIsLaidOutAnew) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor x = Drawn({4, 48}, 2), pictures = ChannelsLast(Drawn({1, 32, 8, 8}, 3));
  torch::Tensor before, before_pictures;
  for (int pass = 0; pass < 3; ++pass) {  // the second keeps the layout, the third has it
    before = linear_(x);
    before_pictures = convolution_(pictures);
  }
  linear_->weight.mul_(2);
  linear_->bias.zero_();
  EXPECT_LE(Difference(linear_(x), torch::linear(x, linear_->weight).to(torch::kFloat64)), kRounding);
  convolution_->weight.set_data(Drawn({64, 32, 3, 3}, 11));
  EXPECT_LE(Difference(convolution_(pictures),
                       torch::conv2d(pictures, convolution_->weight, convolution_->bias, 1, 1).to(torch::kFloat64)),
            kRounding);
  EXPECT_FALSE(torch::equal(before, linear_(x)));
  EXPECT_FALSE(torch::equal(before_pictures, convolution_(pictures)));
}

TEST_F(KernelsTest, TrainedWeightsHaveGradients) {
  linear_->weight.set_requires_grad(true);
  convolution_->weight.set_requires_grad(true);
  EXPECT_FALSE(LinearKernel::Takes(Drawn({1, 48}, 2), linear_->weight));
  EXPECT_TRUE(ConvolutionKernel::Takes(Drawn({1, 32, 4, 4}, 2), convolution_->weight));
  (linear_(Drawn({4, 48}, 2)).sum() + convolution_(Drawn({1, 32, 8, 8}, 3)).sum()).backward();
  EXPECT_TRUE(linear_->weight.grad().defined());
  EXPECT_TRUE(convolution_->weight.grad().defined());
}

TEST_F(KernelsTest, ATrainedConvolutionIsLibTorchs) {
  // Fewer pixels than a tile; sides that tiles do not divide; pictures of which one alone fills the caches.
  for (const auto& [pictures, in, height, width, out] :
       {std::array<int64_t, 5>{2, 16, 3, 2, 48}, {3, 32, 11, 16, 64}, {3, 32, 40, 64, 16}}) {
    ExpectSame([](const auto& x) { return ConvolutionKernel()(ChannelsLast(x[0]), x[1], x[2]); },
               [](const auto& x) { return torch::conv2d(x[0], x[1], x[2], 1, 1); },
               {Drawn({pictures, in, height, width}, 2),
                Drawn({out, in, 3, 3}, 3) / std::sqrt(9.0 * static_cast<double>(in)), Drawn({out}, 4)},
               kRounding);
  }
}

// So that a trained layer's first step starts from what the base computes.
TEST_F(KernelsTest, ATrainedConvolutionHasTheFrozenOnesBytes) {
  const torch::Tensor x = ChannelsLast(Drawn({3, 32, 11, 16}, 2));
  ASSERT_TRUE(ConvolutionKernel::Takes(x, convolution_->weight));
  const torch::Tensor frozen = convolution_(x);
  convolution_->weight.set_requires_grad(true);
  EXPECT_TRUE(torch::equal(convolution_(x), frozen));
  EXPECT_TRUE(torch::equal(convolution_->Apply(x, convolution_->weight.detach().clone(), convolution_->bias), frozen));
}

TEST_F(KernelsTest, OnlyTheGradientsThatAreWantedAreMade) {
  const torch::Tensor x = ChannelsLast(Drawn({1, 32, 8, 8}, 2));
  convolution_->weight.set_requires_grad(true);
  convolution_(x).sum().backward();
  EXPECT_TRUE(convolution_->weight.grad().defined());
  EXPECT_FALSE(convolution_->bias.grad().defined());
  const torch::Tensor traced = x.clone().requires_grad_(), weight = convolution_->weight.detach();
  ConvolutionKernel()(traced, weight, {}).sum().backward();
  EXPECT_TRUE(traced.grad().defined());
  EXPECT_FALSE(weight.grad().defined());
}

TEST_F(KernelsTest, TrainedNormsAreLibTorchs) {
  for (const auto after : {kernels::AfterNorm::kNothing, kernels::AfterNorm::kSilu}) {
    ExpectSame([&](const auto& in) { return GroupNormThen(ChannelsLast(in[0]), 8, in[1], in[2], 1e-5, after); },
               [&](const auto& in) {
                 const auto y = torch::group_norm(in[0], 8, in[1], in[2], 1e-5);
                 return after == kernels::AfterNorm::kSilu ? torch::silu(y) : y;
               },
               {Drawn({3, 32, 5, 7}, 4), Drawn({32}, 2), Drawn({32}, 3)}, kRounding);
  }
  ExpectSame([](const auto& in) { return LayerNormOf(in[0], in[1], in[2], 1e-5); },
             [](const auto& in) { return torch::layer_norm(in[0], {32}, in[1], in[2], 1e-5); },
             {Drawn({3, 9, 32}, 5), Drawn({32}, 2), Drawn({32}, 3)}, kRounding);
}

// A method's values need no gradient where gradients are off, as in the first pass of what is recomputed.
TEST_F(KernelsTest, TrainedNormsHaveTheSameBytesWithoutGradients) {
  const torch::Tensor x = ChannelsLast(Drawn({3, 32, 5, 7}, 4)), rows = Drawn({3, 9, 32}, 5);
  const torch::Tensor weight = Drawn({32}, 2).set_requires_grad(true), bias = Drawn({32}, 3).set_requires_grad(true);
  const auto all = [&](const torch::Tensor& w, const torch::Tensor& b) {
    return torch::cat({GroupNormThen(x, 8, w, b, 1e-5, kernels::AfterNorm::kSilu).flatten(),
                       LayerNormOf(rows, w, b, 1e-5).flatten()});
  };
  EXPECT_TRUE(torch::equal(all(weight, bias), all(weight.detach(), bias.detach())));
}

// The first norm of a network in which norms alone are trained, in 16 bits: LibTorch's.
TEST_F(KernelsTest, ANormIsTrainedInSixteenBitsWhereItsInputIsNot) {
  const torch::Tensor x = Drawn({3, 32, 5, 7}, 4), weight = Drawn({32}, 2).set_requires_grad(true);
  const torch::Tensor wide_weight = weight.detach().to(torch::kFloat64).set_requires_grad(true);
  const auto half = ChannelsLast(x).to(torch::kBFloat16);
  GroupNormThen(half, 8, weight, {}, 1e-5, kernels::AfterNorm::kSilu).square().sum().backward();
  const auto wide = half.to(torch::kFloat64).contiguous();  // as the operator has the fault in this type, too
  torch::silu(torch::group_norm(wide, 8, wide_weight, {}, 1e-5)).square().sum().backward();
  EXPECT_LE(Difference(weight.grad(), wide_weight.grad()), kRounding);
}

// The same in float32.
TEST_F(KernelsTest, ANormIsTrainedWhereItsInputIsNot) {
  const torch::Tensor x = Drawn({3, 32, 5, 7}, 4);
  for (const bool with_weight : {true, false}) {
    const torch::Tensor weight = Drawn({32}, 2).set_requires_grad(with_weight);
    const torch::Tensor bias = Drawn({32}, 3).set_requires_grad(true);
    const torch::Tensor wide_weight = weight.detach().to(torch::kFloat64).set_requires_grad(with_weight);
    const torch::Tensor wide_bias = bias.detach().to(torch::kFloat64).set_requires_grad(true);
    const auto y = GroupNormThen(ChannelsLast(x), 8, weight, bias, 1e-5, kernels::AfterNorm::kSilu);
    const auto expected = torch::silu(torch::group_norm(x.to(torch::kFloat64), 8, wide_weight, wide_bias, 1e-5));
    EXPECT_LE(Difference(y, expected), kRounding);
    y.square().sum().backward();
    expected.square().sum().backward();
    EXPECT_LE(Difference(bias.grad(), wide_bias.grad()), kRounding);
    if (with_weight) {
      EXPECT_LE(Difference(weight.grad(), wide_weight.grad()), kRounding);
    }
  }
}

TEST_F(KernelsTest, NormsAndActivationsAreLibTorchs) {
  const torch::Tensor weight = Drawn({32}, 2), bias = Drawn({32}, 3);
  for (const auto after : {kernels::AfterNorm::kNothing, kernels::AfterNorm::kSilu}) {
    ExpectSame([&](const auto& in) { return GroupNormThen(ChannelsLast(in[0]), 8, weight, bias, 1e-5, after); },
               [&](const auto& in) {
                 const auto y = torch::group_norm(in[0], 8, weight.to(torch::kFloat64), bias.to(torch::kFloat64), 1e-5);
                 return after == kernels::AfterNorm::kSilu ? torch::silu(y) : y;
               },
               {Drawn({3, 32, 5, 7}, 4)}, kRounding);
  }
  ExpectSame([&](const auto& in) { return LayerNormOf(in[0], weight, bias, 1e-5); },
             [&](const auto& in) {
               return torch::layer_norm(in[0], {32}, weight.to(torch::kFloat64), bias.to(torch::kFloat64), 1e-5);
             },
             {Drawn({3, 9, 32}, 5)}, kRounding);
  // A method's bias without a weight, or a weight that is trained.
  ExpectSame([&](const auto& in) { return LayerNormOf(in[0], {}, bias, 1e-5) + LayerNormOf(in[0], in[1], bias, 1e-5); },
             [&](const auto& in) {
               const auto wide = bias.to(torch::kFloat64);
               return torch::layer_norm(in[0], {32}, {}, wide, 1e-5) +
                      torch::layer_norm(in[0], {32}, in[1], wide, 1e-5);
             },
             {Drawn({3, 9, 32}, 5), Drawn({32}, 6)}, kRounding);
  ExpectSame(
      [&](const auto& in) {
        const auto x = ChannelsLast(in[0]);
        return GroupNormThen(x, 8, {}, bias, 1e-5, kernels::AfterNorm::kSilu) +
               GroupNormThen(x, 8, in[1], {}, 1e-5, kernels::AfterNorm::kNothing);
      },
      [&](const auto& in) {
        return torch::silu(torch::group_norm(in[0], 8, {}, bias.to(torch::kFloat64), 1e-5)) +
               torch::group_norm(in[0], 8, in[1], {}, 1e-5);
      },
      {Drawn({3, 32, 5, 7}, 4), Drawn({32}, 6)}, kRounding);
  ExpectSame([](const auto& in) { return LayerNormOf(in[0], {}, {}, 1e-6); },
             [](const auto& in) { return torch::layer_norm(in[0], {40}, {}, {}, 1e-6); }, {Drawn({5, 40}, 6)},
             kRounding);
  ExpectSame([](const auto& in) { return GeluGated(in[0]); },
             [](const auto& in) {
               const auto parts = in[0].chunk(2, -1);
               return parts[0] * torch::gelu(parts[1]);
             },
             {Drawn({3, 5, int64_t{2} * 24}, 7)}, kRounding);
  ExpectSame([](const auto& in) { return Activated(in[0], kernels::Activation::kGeluTanh); },
             [](const auto& in) { return torch::gelu(in[0], "tanh"); }, {Drawn({7, 33}, 8)}, kRounding);
  // A gradient that lies in memory in another order than the number it is of.
  ExpectSame([](const auto& in) { return Activated(in[0].t(), kernels::Activation::kSilu).t().contiguous(); },
             [](const auto& in) { return torch::silu(in[0]); }, {Drawn({6, 10}, 9)}, kRounding);
}

// In one pass and layer by layer: the same bytes, with gradients and without.
TEST_F(KernelsTest, AFeedForwardInOnePassHasTheSameBytes) {
  for (const auto between : {kernels::BetweenProducts::kGeglu, kernels::BetweenProducts::kGeluTanh}) {
    const bool gated = between == kernels::BetweenProducts::kGeglu;
    Linear in(48, gated ? 160 : 80), out(80, 32);
    runtime::RandomStream stream(3);
    InitialiseAsTorch(*in, stream.generator());
    InitialiseAsTorch(*out, stream.generator());
    const auto apart = [&](const torch::Tensor& x) {
      return out(gated ? GeluGated(in(x)) : Activated(in(x), kernels::Activation::kGeluTanh));
    };
    const torch::Tensor x = Drawn({3, 71, 48}, 4).requires_grad_(), y = x.detach().clone().requires_grad_();
    const torch::Tensor found = in->FeedForward(x, between, *out), expected = apart(y);
    EXPECT_TRUE(torch::equal(found, expected));
    const torch::Tensor weighting = Drawn({3, 71, 32}, 5);
    (found * weighting).sum().backward();
    (expected * weighting).sum().backward();
    EXPECT_TRUE(torch::equal(x.grad(), y.grad()));
    const torch::NoGradGuard no_grad;
    EXPECT_TRUE(torch::equal(in->FeedForward(x, between, *out), expected));
    // Trained weights: LibTorch's, with their gradients.
    const torch::AutoGradMode with_grad(true);
    out->weight.set_requires_grad(true);
    in->FeedForward(x.detach(), between, *out).sum().backward();
    EXPECT_TRUE(out->weight.grad().defined());
  }
}

TEST_F(KernelsTest, AttentionIsLibTorchs) {
  const auto heads = [](const torch::Tensor& x) { return x.view({x.size(0), x.size(1), 4, -1}).transpose(1, 2); };
  const auto ours = [&](const auto& in) { return AttentionOf(heads(in[0]), heads(in[1]), heads(in[2])); };
  const auto theirs = [&](const auto& in) {
    return at::scaled_dot_product_attention(heads(in[0]), heads(in[1]), heads(in[2]));
  };
  ExpectSame(ours, theirs, {Drawn({2, 64, 64}, 2), Drawn({2, 64, 64}, 3), Drawn({2, 64, 64}, 4)}, kRounding);
  ExpectSame(ours, theirs, {Drawn({3, 16, 160}, 2), Drawn({3, 77, 160}, 3), Drawn({3, 77, 160}, 4)}, kRounding);
  // Keys and values that all rows have in common, and heads that lie in memory one after another.
  ExpectSame(
      [&](const auto& in) {
        return AttentionOf(heads(in[0]).contiguous(), heads(in[1].expand({3, -1, -1})),
                           heads(in[1].expand({3, -1, -1})));
      },
      [&](const auto& in) {
        const auto keys = heads(in[1].expand({3, -1, -1}));
        return at::scaled_dot_product_attention(heads(in[0]), keys, keys);
      },
      {Drawn({3, 9, 32}, 5), Drawn({1, 11, 32}, 6)}, kRounding);
}

// The law that packs and guidance rest on: whatever else is in the batch, and however many threads there are.
TEST_F(KernelsTest, ARowAloneHasTheSameBytes) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor pictures = ChannelsLast(Drawn({5, 32, 12, 12}, 2)), tokens = Drawn({5, 37, 48}, 3);
  const torch::Tensor weight = Drawn({32}, 2), bias = Drawn({32}, 3);
  const auto heads = [](const torch::Tensor& x) { return x.view({x.size(0), x.size(1), 3, 16}).transpose(1, 2); };
  const auto all = [&](const torch::Tensor& p, const torch::Tensor& t) {
    return std::vector<torch::Tensor>{linear_(t),
                                      convolution_(p),
                                      per_pixel_(p),
                                      GroupNormThen(p, 8, weight, bias, 1e-5, kernels::AfterNorm::kSilu),
                                      LayerNormOf(t, {}, {}, 1e-5),
                                      GeluGated(t),
                                      Activated(t, kernels::Activation::kGelu),
                                      AttentionOf(heads(t), heads(t), heads(t))};
  };
  const auto together = all(pictures, tokens);
  for (int64_t row = 0; row < 5; ++row) {
    const auto alone = all(ChannelsLast(pictures.narrow(0, row, 1)), tokens.narrow(0, row, 1));
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_TRUE(torch::equal(alone[i], together[i].narrow(0, row, 1))) << "operator " << i << ", row " << row;
    }
  }
  const int threads = torch::get_num_threads();
  torch::set_num_threads(threads == 1 ? 2 : 1);
  const auto shared_out = all(pictures, tokens);
  torch::set_num_threads(threads);
  for (size_t i = 0; i < together.size(); ++i)
    EXPECT_TRUE(torch::equal(together[i], shared_out[i])) << "operator " << i;
}

}  // namespace
}  // namespace loupe::worker::nn
