// A base of Stable Diffusion XL's structure against diffusers: tests/parity/xl.py wrote it, as a folder and as one
// file.
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/parity/written_base.h"
#include "worker/sampling/picture_sampler.h"

namespace loupe::worker {
namespace {

// As in networks_test.cc.
constexpr double kXlForward = 1e-5, kXlGradient = 3e-5;

std::vector<std::string> XlCaptions() {
  return nlohmann::json::parse(std::ifstream(ReferenceFolder() + "/captions.json")).get<std::vector<std::string>>();
}

class XlParity : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto base = base::LoadBase(ReferenceFolder() + "/" + GetParam());
    ASSERT_TRUE(base.ok()) << base.status();
    base_.emplace(*std::move(base));
    expected_ = ReadReference("xl_like.safetensors");
  }

  std::optional<base::BaseModel> base_;
  std::map<std::string, torch::Tensor> expected_;
};

TEST_P(XlParity, UNetForwardLossAndInputGradients) {
  const auto leaf = [&](const char* name) { return expected_[name].clone().requires_grad_(); };
  const auto latents = leaf("latents"), context = leaf("context"), pooled = leaf("pooled");
  const auto output = base_->unet(latents, expected_["timesteps"], context, nullptr,
                                  models::AddedCondition{pooled, expected_["sizes"]});
  EXPECT_TRUE(Close(output, expected_["output"], kXlForward));
  const auto loss = torch::mse_loss(output, expected_["noise"]);
  EXPECT_TRUE(Close(loss, expected_["loss"], kXlForward));
  loss.backward();
  EXPECT_TRUE(Close(latents.grad(), expected_["latents_gradient"], kXlGradient));
  EXPECT_TRUE(Close(context.grad(), expected_["context_gradient"], kXlGradient));
  EXPECT_TRUE(Close(pooled.grad(), expected_["pooled_gradient"], kXlGradient));
}

// The condition holds the towers' hidden states, then the pooled text in two rows; nothing of the empty prompt.
TEST_P(XlParity, TextTowersEncode) {
  std::vector<std::string> written = XlCaptions();
  std::erase(written, "");
  const auto condition = base_->EncodeText(written);
  const int64_t tokens = expected_["text_hidden"].size(1), width = expected_["text_pooled"].size(1);
  ASSERT_EQ(condition.size(1), tokens + 2);
  EXPECT_TRUE(Close(condition.narrow(1, 0, tokens), expected_["text_hidden"], kXlForward));
  const auto rest = condition.narrow(1, tokens, 2).flatten(1);
  EXPECT_TRUE(Close(rest.narrow(1, 0, width), expected_["text_pooled"], kXlForward));
  EXPECT_EQ(rest.narrow(1, width, rest.size(1) - width).abs().max().item<float>(), 0);
  EXPECT_EQ(base_->EncodeText({""}).abs().max().item<float>(), 0);
}

TEST_P(XlParity, SamplesThePipelinesPictures) {
  std::vector<std::string> written = XlCaptions();
  std::erase(written, "");
  sampling::SampleOptions options;
  options.steps = 6;
  options.guidance = 5;
  for (int64_t i = 0; i < 2; ++i) {
    // As in pipeline_test.cc.
    const auto latents =
        sampling::SampleLatents(*base_, {written[static_cast<size_t>(i)]}, expected_["start"].narrow(0, i, 1), options);
    EXPECT_TRUE(Close(latents, expected_["sampled"].narrow(0, i, 1), 1e-3));
    const auto pictures = base::ImagesFromPictures(base_->DecodeLatents(latents));
    const auto bytes = expected_["pictures"][i].contiguous();
    ASSERT_EQ(static_cast<int64_t>(pictures[0].rgb.size()), bytes.numel());
    int furthest = 0;
    for (size_t p = 0; p < pictures[0].rgb.size(); ++p) {
      furthest = std::max(furthest, std::abs(pictures[0].rgb[p] - bytes.const_data_ptr<uint8_t>()[p]));
    }
    EXPECT_LE(furthest, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, XlParity, ::testing::Values("xl_like", "xl_single"),
                         [](const auto& info) { return std::string(info.param); });

// linear_and_lists by the original names, its text tower by OpenCLIP's, in a .ckpt.
TEST(SingleFileV2Parity, SameNetworksAsFromTheFolder) {
  torch::NoGradGuard no_grad;
  auto base = base::LoadBase(ReferenceFolder() + "/sd_v2_single");
  ASSERT_TRUE(base.ok()) << base.status();
  auto expected = ReadReference("linear_and_lists.safetensors");
  EXPECT_TRUE(Close(base->unet(expected["latents"], expected["timesteps"], expected["context"]), expected["output"],
                    kXlForward));
  EXPECT_TRUE(Close(base->vae->Decode(expected["latents"].slice(0, 0, 2)), expected["vae_decoded"], kXlForward));
  EXPECT_TRUE(Close(base->EncodeText(XlCaptions()), expected["text_hidden"], kXlForward));
}

}  // namespace
}  // namespace loupe::worker
