// The networks against diffusers and transformers: tests/parity/networks.py wrote the bases and the numbers.
#include <torch/types.h>
#include <torch/utils.h>

#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/parity/written_base.h"

namespace loupe::worker {
namespace {

// float32 through some dozen layers, in another memory layout and hence another order of summation than diffusers'.
// Measured: 1e-6 to 3e-6 of the greatest value; a wrong eps or activation gives 1e-3 or more.
constexpr double kForward = 1e-5;
// Gradients run through all layers twice.
constexpr double kGradient = 3e-5;

class BaseParity : public WrittenBase {};

TEST_P(BaseParity, UNetForwardLossAndInputGradients) {
  const auto latents = expected_["latents"].clone().requires_grad_();
  const auto context = expected_["context"].clone().requires_grad_();
  const auto output = base_->unet(latents, expected_["timesteps"], context);
  EXPECT_TRUE(Close(output, expected_["output"], kForward));
  const auto loss = torch::mse_loss(output, expected_["noise"]);
  EXPECT_TRUE(Close(loss, expected_["loss"], kForward));
  loss.backward();
  EXPECT_TRUE(Close(latents.grad(), expected_["latents_gradient"], kGradient));
  EXPECT_TRUE(Close(context.grad(), expected_["context_gradient"], kGradient));
  for (const auto& parameter : base_->unet->parameters()) ASSERT_FALSE(parameter.requires_grad());
}

TEST_P(BaseParity, UNetWithKeptContextIsTheSame) {
  torch::NoGradGuard no_grad;
  nn::ContextCache cache;
  for (int pass = 0; pass < 2; ++pass) {
    const auto output = base_->unet(expected_["latents"], expected_["timesteps"], expected_["context"], &cache);
    EXPECT_TRUE(Close(output, expected_["output"], kForward));
  }
}

TEST_P(BaseParity, VaeEncodesAndDecodes) {
  torch::NoGradGuard no_grad;
  const auto latents = base_->vae->Encode(expected_["pictures"]);
  EXPECT_TRUE(Close(latents.mean, expected_["vae_mean"], kForward));
  EXPECT_TRUE(Close(latents.logvar, expected_["vae_logvar"], kForward));
  EXPECT_TRUE(Close(base_->vae->Decode(expected_["latents"].slice(0, 0, 2)), expected_["vae_decoded"], kForward));
}

TEST_P(BaseParity, TextTowerFromCaptions) {
  const auto captions =
      nlohmann::json::parse(std::ifstream(ReferenceFolder() + "/captions.json")).get<std::vector<std::string>>();
  EXPECT_TRUE(base_->conditioner->Ids(captions).equal(expected_["ids"]));
  EXPECT_TRUE(Close(base_->EncodeText(captions), expected_["text_hidden"], kForward));
}

INSTANTIATE_TEST_SUITE_P(Shapes, BaseParity, ::testing::Values("sd_v1_like", "emoji_shape", "linear_and_lists"),
                         [](const auto& info) { return std::string(info.param); });

// original_file.py wrote sd_v1_like as one file by the original code's names.
TEST(SingleFileParity, SameNetworksAsFromTheFolder) {
  torch::NoGradGuard no_grad;
  auto base = base::LoadBase(ReferenceFolder() + "/sd_v1_single");
  ASSERT_TRUE(base.ok()) << base.status();
  auto expected = ReadReference("sd_v1_like.safetensors");
  EXPECT_TRUE(
      Close(base->unet(expected["latents"], expected["timesteps"], expected["context"]), expected["output"], kForward));
  EXPECT_TRUE(Close(base->vae->Encode(expected["pictures"]).mean, expected["vae_mean"], kForward));
  EXPECT_TRUE(Close(base->vae->Decode(expected["latents"].slice(0, 0, 2)), expected["vae_decoded"], kForward));
  const auto captions =
      nlohmann::json::parse(std::ifstream(ReferenceFolder() + "/captions.json")).get<std::vector<std::string>>();
  EXPECT_TRUE(Close(base->EncodeText(captions), expected["text_hidden"], kForward));
}

TEST(ClipParity, BothTowersProject) {
  torch::NoGradGuard no_grad;
  auto scorer = base::LoadClipScorer(ReferenceFolder() + "/clip");
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  auto expected = ReadReference("clip.safetensors");
  EXPECT_TRUE(Close(scorer->clip->ImageFeatures(expected["pixels"]), expected["image_features"], kForward));
  EXPECT_TRUE(Close(scorer->clip->TextFeatures(expected["ids"]), expected["text_features"], kForward));
}

TEST(ClipParity, PreprocessingOfPictureFiles) {
  const std::string folder = ReferenceFolder();
  auto preprocessing =
      models::PicturePreprocessing::Read(folder + "/clip", models::PicturePreprocessing::Defaults::kClip);
  ASSERT_TRUE(preprocessing.ok()) << preprocessing.status();
  auto expected = ReadReference("pictures.safetensors");
  for (const auto& name : nlohmann::json::parse(std::ifstream(folder + "/pictures.json"))) {
    const auto image = io::ReadImage(folder + "/pictures/" + name.get<std::string>());
    ASSERT_TRUE(image.ok()) << image.status();
    // The bytes are equal (tests/parity/files_test); only the float32 scaling is rounded in another order.
    EXPECT_TRUE(Close(preprocessing->Apply(*image), expected[name.get<std::string>() + ".clip"], 1e-6)) << name;
  }
}

}  // namespace
}  // namespace loupe::worker
