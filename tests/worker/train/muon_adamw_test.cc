#include "worker/train/muon_adamw.h"

#include <ATen/CPUGeneratorImpl.h>

#include "gtest/gtest.h"
#include "worker/nn/leaf_layers.h"

namespace loupe::worker::train {
namespace {

class TwoKindsImpl : public torch::nn::Module {
 public:
  TwoKindsImpl() : linear(register_module("linear", nn::Linear(4, 3))) {
    auto random = at::make_generator<at::CPUGeneratorImpl>(7);
    nn::InitialiseAsTorch(*this, random);
    for (auto& p : parameters()) p.set_requires_grad(true);
  }
  nn::Linear linear{nullptr};
};
TORCH_MODULE(TwoKinds);

TEST(MuonAdamWTest, OrthogonalisedHasSingularValuesNearOne) {
  auto random = at::make_generator<at::CPUGeneratorImpl>(7);
  for (const auto& shape : {std::vector<int64_t>{6, 20}, {20, 6}, {8, 8}}) {
    const auto values = torch::linalg_svdvals(Orthogonalised(torch::randn(shape, random)));
    // The quintic's fixed band is about [0.68, 1.13]; five steps bring very small values only near it.
    EXPECT_LT(values.max().item<double>(), 1.25);
    if (shape[0] != shape[1]) {
      EXPECT_GT(values.min().item<double>(), 0.6);
    }
  }
}

TEST(MuonAdamWTest, MatricesOfOneShapeComeOutAsEachAlone) {
  auto random = at::make_generator<at::CPUGeneratorImpl>(7);
  for (const auto& shape : {std::vector<int64_t>{3, 6, 20}, {3, 20, 6}}) {
    const auto many = torch::randn(shape, random);
    const auto together = Orthogonalised(many);
    for (int64_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(together[i].allclose(Orthogonalised(many[i]), 1e-5, 1e-6)) << i;
    }
  }
}

TEST(MuonAdamWTest, OrthogonalisedInBfloat16IsTheSameDirection) {
  auto random = at::make_generator<at::CPUGeneratorImpl>(7);
  const auto g = torch::randn({24, 60}, random);
  const auto exact = Orthogonalised(g), rounded = Orthogonalised(g, torch::kBFloat16);
  EXPECT_EQ(rounded.scalar_type(), torch::kFloat32);
  // Fifteen products with 8 bits of mantissa: each rounds by up to 2⁻⁹, and the quintic's slope is up to 3.4.
  EXPECT_GT(((exact * rounded).sum() / (exact.norm() * rounded.norm())).item<double>(), 0.999);
}

TEST(MuonAdamWTest, MatricesTakeMuonAndEverythingElseAdam) {
  const auto matrix = torch::zeros({3, 4});
  EXPECT_TRUE(MuonAdamW::TakesMuon("mid_block.resnets.0.conv1.weight", torch::zeros({8, 8, 3, 3})));
  EXPECT_TRUE(MuonAdamW::TakesMuon("time_embedding.linear_1.weight", matrix));
  EXPECT_FALSE(MuonAdamW::TakesMuon("mid_block.resnets.0.conv1.bias", torch::zeros({8})));
  EXPECT_FALSE(MuonAdamW::TakesMuon("text_model.embeddings.token_embedding.weight", matrix));
  EXPECT_FALSE(MuonAdamW::TakesMuon("vision_model.embeddings.patch_embedding.weight", torch::zeros({8, 3, 4, 4})));
  EXPECT_FALSE(MuonAdamW::TakesMuon("conv_out.weight", torch::zeros({4, 8, 3, 3})));
}

TEST(MuonAdamWTest, FirstAdamStepMovesEachNumberByTheRateAgainstItsGradient) {
  TwoKinds network;
  MuonAdamW optimiser(ParametersOfNetwork(*network), {.adam_rate = 0.01});
  const auto before = network->linear->bias.detach().clone();
  network->linear->bias.mutable_grad() = torch::tensor({2.0F, -0.5F, 1.0F});
  optimiser.Step(1);
  // With both moments corrected, the first step is rate · g / (|g| + 1e-8).
  const auto moved = network->linear->bias.detach() - before;
  EXPECT_TRUE(moved.allclose(torch::tensor({-0.01F, 0.01F, -0.01F}), 1e-5, 1e-7)) << moved;
}

TEST(MuonAdamWTest, RegressionLossFallsToLittle) {
  TwoKinds network;
  MuonAdamW optimiser(ParametersOfNetwork(*network), {.muon_rate = 0.05, .adam_rate = 0.05, .weight_decay = 0});
  auto random = at::make_generator<at::CPUGeneratorImpl>(1);
  const auto x = torch::randn({64, 4}, random), truth = torch::randn({4, 3}, random);
  const auto y = torch::mm(x, truth) + 1;
  double first = 0, last = 0;
  for (int64_t step = 0; step < 200; ++step) {
    for (auto& parameter : network->parameters()) parameter.mutable_grad().reset();
    const auto loss = (network->linear(x) - y).square().mean();
    loss.backward();
    optimiser.Step(1 - static_cast<double>(step) / 200);
    (step == 0 ? first : last) = loss.item<double>();
  }
  EXPECT_LT(last, first / 1000);
}

}  // namespace
}  // namespace loupe::worker::train
