// LoRA, BitFit and full fine-tuning on a small network: what they start from, packs against solo runs, dropout,
// recomputed blocks, autocast, cached keys and values, merging. Their arithmetic is held to peft's in tests/parity.
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/worker/methods/method_fixture.h"
#include "worker/methods/method_registry.h"

namespace loupe::worker::methods {
namespace {

using ::testing::HasSubstr;

Values Lora(const Values& more = {}) {
  Values values = {{"method.kind", "lora"}, {"method.targets", "all"}};
  for (const auto& [key, value] : more) values[key] = value;
  return values;
}

using LayerMethodsTest = MethodFixture;

TEST_F(LayerMethodsTest, AllStartFromTheUntouchedBase) {
  const SmallInputs in = MakeInputs(2, 5);
  const torch::Tensor plain = Forward(in);
  for (const Values& values :
       {Lora(), Lora({{"method.dora", "true"}}), Values{{"method.kind", "bitfit"}}, Values{{"method.kind", "full"}}}) {
    const auto method = Attach({values});
    // A bias added after the product is rounded once more than within it; DoRA's ratio is 1 but for rounding.
    EXPECT_LT(Difference(Forward(in), plain), 2e-5) << values.at("method.kind");
    Shake(*method);
    EXPECT_GT(Difference(Forward(in), plain), 1e-3) << values.at("method.kind");
    const MethodDisabled off(method.get());
    EXPECT_TRUE(Forward(in).equal(plain));
  }
  EXPECT_TRUE(Forward(in).equal(plain));
}

TEST_F(LayerMethodsTest, LoraDrawsAsTorchDoesAndCountsItsRanks) {
  const auto method = Attach({Lora({{"method.rank", "3"}, {"method.targets", "conv1 attn1.to_q"}})}, 99);
  auto generator = at::detail::createCPUGenerator(99);
  int64_t numbers = 0;
  for (const nn::LayerSite& site : nn::SitesIn(*network_).denoiser) {
    if (!settings::FitsName("conv1", site.name) && !settings::FitsName("attn1.to_q", site.name)) continue;
    auto shape = site.layer->weight.sizes().vec();
    numbers += 3 * (shape[0] + site.layer->weight[0].numel());
    shape[0] = 3;
    // kaiming_uniform with a = √5: a gain of √(2/6), a bound of gain·√(3/fan_in).
    const double bound = std::sqrt(1.0 / 3) * std::sqrt(3.0 / static_cast<double>(site.layer->weight[0].numel()));
    const auto expected = torch::empty(shape).uniform_(-bound, bound, generator);
    const auto arrays = method->Export(0);
    EXPECT_TRUE(arrays.at("unet." + site.name + ".lora_A.weight").allclose(expected, 0, 1e-7)) << site.name;
    EXPECT_EQ(arrays.at("unet." + site.name + ".lora_B.weight").abs().max().item<double>(), 0);
  }
  EXPECT_EQ(method->ParametersOf(0), numbers);
}

TEST_F(LayerMethodsTest, WhatTargetsNameIsWhatIsTrained) {
  const auto count = [&](const std::string& targets) {
    return Attach({Lora({{"method.targets", targets}})})->Export(0).size() / 2;
  };
  EXPECT_EQ(count("attention"), 2u * 2 * 4);  // two blocks of two attentions
  EXPECT_EQ(count("cross-attention"), 2u * 4);
  EXPECT_EQ(count("linear"), 2u * (2 * 4 + 2));  // and two layers of the feed-forward
  EXPECT_EQ(count("all"), 20u + 2 + 2 * 3 + 2);  // and proj_in, proj_out; conv1, conv2, time_emb_proj; two shortcuts
  EXPECT_EQ(count("cross-attention first.conv1"), 9u);
  EXPECT_EQ(count("attn*.to_k"), 4u);
  EXPECT_THAT(Refusal(Lora({{"method.targets", "attn3.to_q"}})), HasSubstr("'attn3.to_q' fits no linear layer"));
  EXPECT_THAT(Refusal(Lora({{"method.targets", "norm1"}})), HasSubstr("'norm1' fits no linear layer"));
  EXPECT_THAT(Refusal(Lora({{"method.text_encoder", "true"}})), HasSubstr("fits no layer of the text encoder"));
  EXPECT_THAT(Refusal({{"method.kind", "full"}, {"method.layers", "conv9"}}), HasSubstr("'conv9' fits no weight"));
}

TEST_F(LayerMethodsTest, BitFitTrainsEveryBias) {
  const auto method = Attach({{{"method.kind", "bitfit"}}});
  size_t biases = 0;
  const auto arrays = method->Export(0);
  for (const auto& item : network_->named_parameters()) {
    if (!item.key().ends_with(".bias")) continue;
    ++biases;
    EXPECT_TRUE(arrays.at("unet." + item.key()).equal(item.value())) << item.key();
  }
  EXPECT_EQ(arrays.size(), biases);
}

TEST_F(LayerMethodsTest, FullTakesTheWeightsThatAreChosen) {
  EXPECT_EQ(Attach({{{"method.kind", "full"}}})->Export(0).size(), network_->named_parameters().size());
  const auto arrays = Attach({{{"method.kind", "full"}, {"method.layers", "first.conv1.weight norm1"}}})->Export(0);
  // norm1 of two residual and two transformer blocks, weight and bias.
  EXPECT_EQ(arrays.size(), 1u + 4 * 2);
  EXPECT_TRUE(arrays.at("unet.first.conv1.weight").equal(network_->first->named_parameters()["conv1.weight"]));
}

// Kinds, ranks, DoRA and dropout mixed; two steps of plain descent each.
TEST_F(LayerMethodsTest, AMixedPackTrainsAsSoloRunsDo) {
  const std::vector<Values> slots = {
      Lora({{"method.rank", "2"}, {"method.dropout", "0.3"}}),
      Lora({{"method.rank", "2"}, {"method.alpha", "8"}}),
      Lora({{"method.rank", "5"}, {"method.rslora", "true"}, {"method.targets", "linear"}}),
      Lora({{"method.dora", "true"}, {"method.dropout", "0.2"}}),
      {},
      {{"method.kind", "bitfit"}},
      {{"method.kind", "bitfit"}},
      {{"method.kind", "full"}},
      {{"method.scale", "2"}}};
  ExpectPackTrainsAsSoloRuns(slots);
}

TEST_F(LayerMethodsTest, DropoutIsAFunctionOfSlotLayerAndDraw) {
  ExpectDropsInTrainingAlone(Lora({{"method.dropout", "0.5"}}));
}

TEST_F(LayerMethodsTest, RecomputedBlocksGiveTheSameGradients) {
  for (const Values& values : {Lora({{"method.dropout", "0.5"}}), Lora({{"method.dora", "true"}}),
                               Values{{"method.kind", "bitfit"}}, Values{{"method.kind", "full"}}}) {
    ExpectRecomputedGradients(values, at::MemoryFormat::Contiguous);
    ExpectRecomputedGradients(values, at::MemoryFormat::ChannelsLast);
  }
}

TEST_F(LayerMethodsTest, UnderAutocastALayerKeepsItsType) {
  for (const Values& values :
       {Lora(), Lora({{"method.dora", "true"}}), Values{{"method.kind", "bitfit"}}, Values{{"method.kind", "full"}}}) {
    ExpectSixteenBitLayers(values);
  }
}

TEST_F(LayerMethodsTest, KeptKeysAndValuesAreTheHookedLayers) {
  torch::NoGradGuard no_grad;
  const auto method = Attach({Lora({{"method.rank", "2"}}), Lora({{"method.rank", "3"}}), {{"method.kind", "full"}}});
  Shake(*method);
  const auto x = torch::randn({6, 64, 4, 4}), context = torch::randn({6, 5, 24});
  const auto expected = network_->transformer(x, context, nullptr);
  nn::ContextCache cache;
  EXPECT_TRUE(network_->transformer(x, context, &cache).equal(expected));
  EXPECT_TRUE(network_->transformer(x, context, &cache).equal(expected)) << "from the cache";
}

TEST_F(LayerMethodsTest, MergedWeightsComputeAsTheMethodDoes) {
  for (const Values& values :
       {Lora(), Lora({{"method.alpha", "2"}, {"method.rslora", "true"}}), Lora({{"method.dora", "true"}}),
        Values{{"method.kind", "bitfit"}}, Values{{"method.kind", "full"}}}) {
    ExpectMergedWeights(values);
  }
}

TEST_F(LayerMethodsTest, ValuesOfAnotherCellAreRefused) {
  SmallNetwork another;
  const auto method = Attach({Lora()});
  const auto other =
      MakeMethod(nn::SitesIn(*another), {{MethodSettings(Lora({{"method.rank", "7"}})), 1}}, torch::kCPU);
  EXPECT_THROW(method->Import(0, other->Export(0)), c10::Error);
  auto arrays = method->Export(0);
  arrays.erase(arrays.begin());
  EXPECT_THROW(method->Import(0, arrays), c10::Error);
}

}  // namespace
}  // namespace loupe::worker::methods
