// DiffFit, visual prompts, AdaptFormer, the sequential adapter, IA³, LoHa and LoKr on a small network: what they start
// from, what they train, packs against solo runs, recomputed blocks, autocast, merging, files. Their arithmetic is held
// to peft's and to written-out formulas in tests/parity.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/worker/methods/method_fixture.h"
#include "worker/models/dit.h"

namespace loupe::worker::methods {
namespace {

using ::testing::HasSubstr;

Values Tuned(const std::string& kind, const Values& more = {}) {
  Values values = {{"method.kind", kind}};
  for (const auto& [key, value] : more) values["method." + key] = value;
  return values;
}

const std::vector<Values>& AllTransformerMethods() {
  static const std::vector<Values> all = {
      Tuned("difffit"),
      Tuned("difffit", {{"gamma", "qkv proj ff branch"}, {"gamma_blocks", "1"}, {"gamma_from", "last"}}),
      Tuned("ia3"),
      Tuned("loha", {{"targets", "all"}, {"alpha", "2"}}),
      Tuned("lokr", {{"targets", "all"}, {"alpha", "2"}}),
      Tuned("lokr", {{"targets", "linear"}, {"rank", "64"}}),
      Tuned("oft", {{"targets", "linear"}, {"block_size", "8"}}),
      Tuned("oft", {{"targets", "attention proj_in"}, {"block_size", "4"}, {"cayley", "neumann"}}),
      Tuned("adaptformer", {{"bottleneck", "8"}}),
      Tuned("sequential-adapter", {{"bottleneck", "8"}}),
      Tuned("vpt-deep", {{"tokens", "3"}}),
      Tuned("vpt-shallow", {{"tokens", "3"}})};
  return all;
}

bool HasPrompts(const Values& values) { return values.at("method.kind").starts_with("vpt"); }
bool IsMergeable(const Values& values) {
  const std::string& kind = values.at("method.kind");
  return !HasPrompts(values) && kind != "adaptformer" && kind != "sequential-adapter";
}

using TransformerMethodsTest = MethodFixture;

TEST_F(TransformerMethodsTest, DefaultsAloneAreEnough) {
  for (const char* kind :
       {"difffit", "vpt-deep", "vpt-shallow", "adaptformer", "sequential-adapter", "ia3", "loha", "lokr", "oft"}) {
    EXPECT_GT(Attach({Tuned(kind)})->ParametersOf(0), 0) << kind;
  }
}

TEST_F(TransformerMethodsTest, WhatStartsFromTheBaseDoesAndAllLeaveIt) {
  const SmallInputs in = MakeInputs(2, 5);
  const torch::Tensor plain = Forward(in);
  for (const Values& values : AllTransformerMethods()) {
    const std::string& kind = values.at("method.kind");
    const auto method = Attach({values});
    // Products, norms and sums are rounded once more than within the layer; the sequential adapter begins near 0, and a
    // prompt changes attention from the start.
    const double start = HasPrompts(values) ? 10 : kind == "sequential-adapter" ? 1e-2 : 2e-5;
    EXPECT_LT(Difference(Forward(in), plain), start) << kind;
    if (HasPrompts(values)) {
      EXPECT_GT(Difference(Forward(in), plain), 1e-3) << kind;
    }
    Shake(*method);
    EXPECT_GT(Difference(Forward(in), plain), 1e-3) << kind;
    const MethodDisabled off(method.get());
    EXPECT_TRUE(Forward(in).equal(plain)) << kind;
  }
  EXPECT_TRUE(Forward(in).equal(plain));
}

TEST_F(TransformerMethodsTest, DiffFitHasFactorsWhereAsked) {
  const auto gammas = [&](const Values& more) {
    std::set<std::string> names;
    for (const auto& [name, value] : Attach({Tuned("difffit", more)})->Export(0)) {
      if (name.find(".gamma") != std::string::npos) names.insert(name);
    }
    return names;
  };
  const std::string first = "unet.transformer.transformer_blocks.0.", last = "unet.transformer.transformer_blocks.1.";
  EXPECT_EQ(gammas({{"gamma", "none"}}).size(), 0u);
  EXPECT_EQ(gammas({{"gamma", "qkv"}}).size(), 2u * 2 * 3);
  EXPECT_EQ(gammas({{"gamma", "proj"}}).size(), 2u * 2);
  EXPECT_EQ(gammas({{"gamma", "ff"}}).size(), 2u * 2);
  EXPECT_EQ(gammas({{"gamma", "branch"}, {"gamma_blocks", "1"}}),
            (std::set<std::string>{first + "gamma_attn1", first + "gamma_attn2", first + "gamma_ff"}));
  EXPECT_EQ(gammas({{"gamma", "branch"}, {"gamma_blocks", "1"}, {"gamma_from", "last"}}),
            (std::set<std::string>{last + "gamma_attn1", last + "gamma_attn2", last + "gamma_ff"}));
  EXPECT_EQ(gammas({{"gamma", "branch"}, {"gamma_blocks", "0"}}).size(), 0u);
  EXPECT_THAT(Refusal(Tuned("difffit", {{"gamma", "none qkv"}})), HasSubstr("'none' stands alone"));
}

TEST_F(TransformerMethodsTest, DiffFitTrainsBiasesAndNormsBesides) {
  const auto arrays = Attach({Tuned("difffit", {{"gamma", "none"}})})->Export(0);
  size_t expected = 0;
  for (const auto& item : network_->named_parameters()) {
    const bool norm = item.key().find("norm") != std::string::npos;
    if (!norm && !item.key().ends_with(".bias")) continue;
    ++expected;
    ASSERT_TRUE(arrays.contains("unet." + item.key())) << item.key();
    EXPECT_TRUE(arrays.at("unet." + item.key()).equal(item.value())) << item.key();
  }
  EXPECT_EQ(arrays.size(), expected);
}

TEST_F(TransformerMethodsTest, AdaptersSitWhereTheirPapersHaveThem) {
  const auto names = [&](const Values& values) { return Attach({values})->Export(0).size(); };
  EXPECT_EQ(names(Tuned("adaptformer")), 2u * 4);  // two blocks, two layers with biases
  EXPECT_EQ(names(Tuned("sequential-adapter")), 2u * 3 * 4);
  EXPECT_EQ(names(Tuned("sequential-adapter", {{"sublayers", "ff"}})), 2u * 4);
  EXPECT_EQ(names(Tuned("sequential-adapter", {{"sublayers", "attention"}})), 2u * 2 * 4);
  const auto arrays = Attach({Tuned("adaptformer", {{"bottleneck", "8"}})})->Export(0);
  EXPECT_EQ(arrays.at("transformer.transformer_blocks.0.adapter.down.weight").sizes(), (at::IntArrayRef{8, 64}));
  EXPECT_EQ(arrays.at("transformer.transformer_blocks.0.adapter.up.weight").abs().max().item<double>(), 0);
  EXPECT_EQ(arrays.at("transformer.transformer_blocks.0.adapter.down.bias").abs().max().item<double>(), 0);
}

TEST_F(TransformerMethodsTest, HoulsbysDrawsAreCutOff) {
  const auto arrays = Attach({Tuned("sequential-adapter")})->Export(0);
  const auto drawn = arrays.at("transformer.transformer_blocks.0.ff.adapter.down.weight");
  EXPECT_LE(drawn.abs().max().item<double>(), 0.0201);
  // Of a normal cut off at two deviations: 0.8796 of it. 4,096 draws.
  EXPECT_NEAR(drawn.std().item<double>(), 0.008796, 0.0003);
  EXPECT_NEAR(drawn.mean().item<double>(), 0, 0.0006);
}

TEST_F(TransformerMethodsTest, PromptsAreTheirBlocksOrTheFirsts) {
  const auto deep = Attach({Tuned("vpt-deep", {{"tokens", "3"}})})->Export(0);
  EXPECT_EQ(deep.size(), 2u);
  EXPECT_EQ(deep.at("transformer.transformer_blocks.1.prompt").sizes(), (at::IntArrayRef{3, 64}));
  EXPECT_LE(deep.begin()->second.abs().max().item<double>(), std::sqrt(3.0 / 64));
  const auto shallow = Attach({Tuned("vpt-shallow", {{"tokens", "3"}})})->Export(0);
  EXPECT_EQ(shallow.size(), 1u);
  EXPECT_TRUE(shallow.contains("transformer.transformer_blocks.0.prompt"));
}

TEST_F(TransformerMethodsTest, AMixedPackTrainsAsSoloRunsDo) {
  std::vector<Values> slots = {Tuned("difffit"), Tuned("difffit"), Tuned("lora", {{"rank", "2"}})};
  for (const Values& values : AllTransformerMethods()) {
    if (!HasPrompts(values)) slots.push_back(values);
  }
  slots.push_back(slots.back());
  ExpectPackTrainsAsSoloRuns(slots);
}

TEST_F(TransformerMethodsTest, PromptsPackAmongThemselves) {
  for (const char* kind : {"vpt-deep", "vpt-shallow"}) {
    ExpectPackTrainsAsSoloRuns(std::vector<Values>(3, Tuned(kind, {{"tokens", "3"}})));
  }
}

TEST_F(TransformerMethodsTest, PromptsRefuseOtherCompany) {
  const SmallInputs in = MakeInputs(4, 5);
  for (const Values& other : {Tuned("vpt-deep", {{"tokens", "4"}}), Tuned("bitfit")}) {
    const auto method = Attach({Tuned("vpt-deep", {{"tokens", "3"}}), other});
    try {
      Forward(in);
      FAIL() << "rows of two lengths in one batch";
    } catch (const c10::Error& error) {
      EXPECT_THAT(error.what_without_backtrace(), HasSubstr("put tokens in front of the stream"));
    }
  }
}

TEST_F(TransformerMethodsTest, RecomputedBlocksGiveTheSameGradients) {
  for (const Values& values : AllTransformerMethods()) {
    ExpectRecomputedGradients(values, at::MemoryFormat::Contiguous);
    ExpectRecomputedGradients(values, at::MemoryFormat::ChannelsLast);
  }
}

TEST_F(TransformerMethodsTest, UnderAutocastALayerKeepsItsType) {
  for (const Values& values : AllTransformerMethods()) ExpectSixteenBitLayers(values);
}

TEST_F(TransformerMethodsTest, MergedWeightsComputeAsTheMethodDoes) {
  for (const Values& values : AllTransformerMethods()) {
    if (IsMergeable(values)) ExpectMergedWeights(values);
  }
}

TEST_F(TransformerMethodsTest, WhatCannotBeMergedSaysSo) {
  for (const Values& values : AllTransformerMethods()) {
    if (IsMergeable(values)) continue;
    BaseWeights weights = Weights();
    const absl::Status status = Attach({values})->Merge(0, weights);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("no weights of the base"));
  }
}

TEST_F(TransformerMethodsTest, ValuesComeBackBitForBit) {
  const SmallInputs in = MakeInputs(2, 5);
  for (const Values& values : AllTransformerMethods()) {
    std::map<std::string, torch::Tensor> saved;
    torch::Tensor expected;
    {
      const auto method = Attach({values});
      Shake(*method);
      saved = method->Export(0);
      expected = Forward(in);
    }
    const auto method = Attach({values}, 77);
    method->Import(0, saved);
    EXPECT_TRUE(Forward(in).equal(expected)) << values.at("method.kind");
    auto broken = saved;
    broken.begin()->second = torch::zeros({1, 2, 3});
    EXPECT_THROW(method->Import(0, broken), c10::Error) << values.at("method.kind");
    saved.erase(saved.begin());
    EXPECT_THROW(method->Import(0, saved), c10::Error) << values.at("method.kind");
  }
}

// Its blocks are one stack: tokens before the first go through all of them, and the picture has none.
TEST_F(TransformerMethodsTest, PromptsGoThroughADiT) {
  models::DiTConfig config;
  config.sample_size = 8;
  config.layers = 3;
  config.heads = 2;
  config.head_width = 8;
  config.classes = 4;
  models::DiTTransformer2DModel dit(config);
  nn::InitialiseAsTorch(*dit, at::detail::createCPUGenerator(2));
  const auto latents = torch::randn({2, 4, 8, 8}, at::detail::createCPUGenerator(3));
  const auto run = [&] { return dit(latents, torch::tensor({3, 700}), torch::tensor({1, 4})); };
  {
    // Gates that are 0 at first would hide every block.
    torch::NoGradGuard no_grad;
    auto generator = at::detail::createCPUGenerator(4);
    for (auto& item : dit->named_parameters()) {
      item.value().copy_(0.3 * torch::randn(item.value().sizes(), generator));
    }
  }
  const torch::Tensor plain = run();
  for (const char* kind : {"vpt-deep", "vpt-shallow"}) {
    const auto method =
        MakeMethod(nn::SitesIn(*dit), {{MethodSettings(Tuned(kind, {{"tokens", "3"}})), 5}}, torch::kCPU);
    EXPECT_EQ(method->Export(0).size(), std::string(kind) == "vpt-deep" ? 3u : 1u);
    const torch::Tensor prompted = run();
    EXPECT_EQ(prompted.sizes(), plain.sizes());
    EXPECT_GT(Difference(prompted, plain), 1e-4) << kind;
    prompted.square().mean().backward();
    for (const NamedParameter& parameter : method->parameters()) {
      EXPECT_GT(parameter.value.grad().abs().max().item<double>(), 0) << parameter.name;
    }
    const MethodDisabled off(method.get());
    EXPECT_TRUE(run().equal(plain)) << kind;
  }
}

TEST_F(TransformerMethodsTest, AdaptFormerDropsInTrainingAlone) {
  ExpectDropsInTrainingAlone(Tuned("adaptformer", {{"bottleneck", "8"}, {"parallel_dropout", "0.5"}}));
}

// A rotation of the inputs changes no angle between the rows of a weight.
TEST_F(TransformerMethodsTest, OftTurnsAndNoMore) {
  const std::string name = "transformer.transformer_blocks.0.attn1.to_q.weight";
  for (const char* cayley : {"exact", "neumann"}) {
    const auto method = Attach({Tuned("oft", {{"targets", "attn1.to_q"}, {"block_size", "8"}, {"cayley", cayley}})});
    Shake(*method);
    BaseWeights weights = Weights();
    const torch::Tensor before = weights.denoiser.at(name).to(torch::kFloat64);
    ASSERT_TRUE(method->Merge(0, weights).ok());
    const torch::Tensor after = weights.denoiser.at(name).to(torch::kFloat64);
    EXPECT_GT(Difference(after, before), 1e-2);
    const double strain = Difference(after.mm(after.t()), before.mm(before.t()));
    if (cayley == std::string("exact")) {
      EXPECT_LT(strain, 1e-5);
    } else {
      EXPECT_GT(strain, 1e-5) << "a series that is cut off";
    }
  }
}

TEST_F(TransformerMethodsTest, OftSaysWhatItCannotTurn) {
  // 64 is not a multiple of 10: blocks of 8.
  const auto arrays = Attach({Tuned("oft", {{"targets", "attn1.to_q"}, {"block_size", "10"}})})->Export(0);
  EXPECT_EQ(arrays.at("unet.transformer.transformer_blocks.0.attn1.to_q.oft_R.weight").sizes(),
            (at::IntArrayRef{8, 28}));
  EXPECT_THAT(Refusal(Tuned("oft", {{"targets", "all"}})), HasSubstr("is a convolution of 3×3"));
}

TEST_F(TransformerMethodsTest, LoKrSplitsAtTheRoot) {
  // 64 = 8·8, and 48 = 6·8; of rank 4, 2·4 is not less than 8, so the second factor is whole.
  const auto arrays = Attach({Tuned("lokr", {{"targets", "attn1.to_q"}})})->Export(0);
  EXPECT_EQ(arrays.at("unet.transformer.transformer_blocks.0.attn1.to_q.lokr_w1").sizes(), (at::IntArrayRef{8, 8}));
  EXPECT_TRUE(arrays.contains("unet.transformer.transformer_blocks.0.attn1.to_q.lokr_w2"));
  const auto products = Attach({Tuned("lokr", {{"targets", "attn1.to_q"}, {"factor", "4"}})})->Export(0);
  EXPECT_EQ(products.at("unet.transformer.transformer_blocks.0.attn1.to_q.lokr_w1").sizes(), (at::IntArrayRef{4, 4}));
  EXPECT_EQ(products.at("unet.transformer.transformer_blocks.0.attn1.to_q.lokr_w2_a").sizes(),
            (at::IntArrayRef{16, 4}));
  EXPECT_EQ(products.at("unet.transformer.transformer_blocks.0.attn1.to_q.lokr_w2_b").sizes(),
            (at::IntArrayRef{4, 16}));
}

}  // namespace
}  // namespace loupe::worker::methods
