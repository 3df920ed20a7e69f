// DiT against diffusers: tests/parity/dit.py wrote the bases and the numbers.
#include <torch/types.h>
#include <torch/utils.h>

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/parity/written_base.h"
#include "worker/nn/tuning_sites.h"
#include "worker/runtime/user_error.h"
#include "worker/sampling/picture_sampler.h"

namespace loupe::worker {
namespace {

// As networks_test.cc's, for the same reasons.
constexpr double kDiTForward = 1e-5;
constexpr double kDiTGradient = 3e-5;

class DiTParity : public WrittenBase {};

TEST_P(DiTParity, ForwardAndEveryGradient) {
  auto latents = expected_["latents"].clone().requires_grad_();
  for (auto& parameter : base_->dit->parameters()) parameter.requires_grad_();
  const auto output = base_->dit(latents, expected_["timesteps"], expected_["classes"]);
  EXPECT_TRUE(Close(output, expected_["output"], kDiTForward));
  torch::mse_loss(output, expected_["target"]).backward();
  EXPECT_TRUE(Close(latents.grad(), expected_["latents_gradient"], kDiTGradient));
  // The copies' gradients belong to the one that is kept.
  std::map<std::string, torch::Tensor> wanted;
  for (const auto& [name, value] : expected_) {
    if (!name.starts_with("gradient.")) continue;
    std::string kept = name.substr(9);
    const size_t at = kept.find(".norm1.emb.");
    if (at != std::string::npos && !base_->dit->config().separate_embeddings) {
      kept = "transformer_blocks.0" + kept.substr(at);
    }
    wanted[kept] = wanted.contains(kept) ? wanted[kept] + value : value;
  }
  const auto parameters = base_->dit->named_parameters();
  ASSERT_EQ(parameters.size(), wanted.size());
  for (const auto& item : parameters) {
    EXPECT_TRUE(Close(item.value().grad(), wanted.at(item.key()), kDiTGradient, 1e-3)) << item.key();
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, DiTParity, ::testing::Values("dit_shared", "dit_separate", "dit_published"),
                         [](const auto& info) { return std::string(info.param); });

TEST(DiTSamplingParity, LatentsOfThePipeline) {
  for (const char* name : {"dit_shared", "dit_separate"}) {
    SCOPED_TRACE(name);
    auto base = base::LoadBase(ReferenceFolder() + "/" + name);
    ASSERT_TRUE(base.ok()) << base.status();
    auto expected = ReadReference(std::string(name) + ".safetensors");
    sampling::SampleOptions options;
    options.sampler = sampling::SamplerKind::kDdim;
    options.steps = 5;
    for (const double guidance : {1.0, 3.0}) {
      options.guidance = guidance;
      const auto latents = sampling::SampleLatents(*base, {"white shark", "6"}, expected["noise"], options);
      const auto wanted = expected[guidance == 1 ? "pictures.1" : "pictures.3"];
      // The random VAE's pictures are mostly within the range; five guided steps feed roundings back.
      EXPECT_TRUE(Close(base->DecodeLatents(latents).permute({0, 2, 3, 1}) / 2 + 0.5, wanted, 1e-4));
    }
    options.guided_channels = 3;
    const auto latents = sampling::SampleLatents(*base, {"white shark", "6"}, expected["noise"], options);
    EXPECT_TRUE(Close(latents, expected["three_channels"], 1e-4));
  }
}

TEST(DiTBaseTest, PromptsAreClasses) {
  auto base = base::LoadBase(ReferenceFolder() + "/dit_shared");
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_TRUE(base->conditioner->Ids({"Tinca tinca", "1", "", "HEN"}).equal(torch::tensor({{0}, {1}, {7}, {6}})));
  EXPECT_EQ(base->classes.NameOf(2), "great white shark");
  EXPECT_EQ(base->classes.NameOf(3), "3");
  try {
    base->conditioner->Ids({"goldfisch"});
    FAIL();
  } catch (const runtime::UserError& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(::testing::HasSubstr("dit_shared"), ::testing::HasSubstr("0 to 6"),
                                               ::testing::HasSubstr("did you mean 'goldfish'")));
  }
}

TEST(DiTBaseTest, BlocksHaveNoCrossAttention) {
  auto base = base::LoadBase(ReferenceFolder() + "/dit_shared");
  ASSERT_TRUE(base.ok()) << base.status();
  const nn::TuningSites sites = nn::SitesIn(base->denoiser->network(), &base->conditioner->network());
  ASSERT_EQ(sites.blocks.size(), 3u);
  EXPECT_EQ(sites.blocks[1].name, "transformer_blocks.1");
  EXPECT_FALSE(sites.blocks[1].Has(nn::Tap::kCaOut));
  EXPECT_TRUE(sites.blocks[1].Has(nn::Tap::kFfnIn));
  EXPECT_TRUE(sites.conditioner.empty());
}

}  // namespace
}  // namespace loupe::worker
