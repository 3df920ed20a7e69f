// DINO-style scorers against transformers' ViTModel and image processors: tests/parity/vit.py wrote folders and
// numbers.
#include "worker/models/vit.h"

#include <torch/types.h>

#include <filesystem>
#include <fstream>
#include <functional>
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
using ::testing::AllOf;
using ::testing::HasSubstr;

class ViTParity : public ::testing::TestWithParam<const char*> {};

TEST_P(ViTParity, PreprocessingAndFeatures) {
  auto scorer = models::LoadDinoScorer(ReferenceFolder() + "/" + GetParam());
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  auto expected = ReadReference(GetParam() + std::string(".safetensors"));
  std::vector<io::Image> images;
  for (const auto& name : json::parse(std::ifstream(ReferenceFolder() + "/vit.json"))) {
    images.push_back(io::ReadImage(ReferenceFolder() + "/pictures/" + name.get<std::string>()).value());
    const auto pixels = expected["pixels"][static_cast<int64_t>(images.size()) - 1];
    // The resized bytes are equal; only the float32 scaling is rounded in another order.
    EXPECT_TRUE(Close(scorer->preprocessing.Apply(images.back()), pixels, 1e-6)) << name;
  }
  // float32 through a few layers, see networks_test.cc. Measured: 4e-7.
  EXPECT_TRUE(Close(scorer->EmbedImages(images), expected["features"], 5e-6));
}

INSTANTIATE_TEST_SUITE_P(Folders, ViTParity, ::testing::Values("vit_dino_like", "vit_other"),
                         [](const auto& info) { return std::string(info.param); });

// Bad folders, each answered with the file and what is wrong in it.
class ViTFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / "vit_folder_test";
    fs::remove_all(folder_);
    fs::copy(ReferenceFolder() + "/vit_dino_like", folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Change(const std::string& file, const std::function<void(json&)>& change) {
    json config = json::parse(std::ifstream(folder_ / file));
    change(config);
    std::ofstream(folder_ / file) << config;
  }
  void ExpectRefused(const std::string& file, const std::string& why) {
    const auto scorer = models::LoadDinoScorer(folder_.string());
    ASSERT_FALSE(scorer.ok());
    const std::string path = file.empty() ? folder_.string() : (folder_ / file).string();
    EXPECT_THAT(std::string(scorer.status().message()), AllOf(HasSubstr(path), HasSubstr(why)));
  }

  fs::path folder_;
};

TEST_F(ViTFolderTest, AnotherNetworkIsRefusedByName) {
  Change("config.json", [](json& c) { c["model_type"] = "dinov2"; });
  ExpectRefused("config.json", "key 'model_type' is \"dinov2\", expected \"vit\"");
}

TEST_F(ViTFolderTest, UnknownAndImpossibleSettingsNameFileAndKey) {
  Change("config.json", [](json& c) { c["layerscale_value"] = 0.1; });
  ExpectRefused("config.json", "'layerscale_value'");
  SetUp();
  Change("config.json", [](json& c) { c["num_attention_heads"] = 5; });
  ExpectRefused("config.json", "'num_attention_heads' is 5, expected a number that divides hidden_size (24)");
  SetUp();
  Change("config.json", [](json& c) { c["hidden_act"] = "relu"; });
  ExpectRefused("config.json", "'hidden_act'");
  SetUp();
  Change("config.json", [](json& c) { c["image_size"] = 64; });
  ExpectRefused("", "makes pictures of 48 pixels, but config.json's image_size is 64");
}

TEST_F(ViTFolderTest, PreprocessingThatIsNotUnderstoodNamesFileAndKey) {
  Change("preprocessor_config.json", [](json& c) { c["resample"] = 0; });
  ExpectRefused("preprocessor_config.json", "'resample' is 0, expected 2 (bilinear) or 3 (bicubic)");
  SetUp();
  Change("preprocessor_config.json", [](json& c) { c["size"] = {{"height", 48}, {"width", 50}}; });
  ExpectRefused("preprocessor_config.json", "'size'");
  SetUp();
  Change("preprocessor_config.json", [](json& c) { c["size"] = {{"shortest_edge", 48}}; });
  ExpectRefused("preprocessor_config.json", "do_center_crop with crop_size");
  SetUp();
  Change("preprocessor_config.json", [](json& c) { c["image_std"] = {0.2, 0.2, 0.0}; });
  ExpectRefused("preprocessor_config.json", "'image_std'");
}

TEST_F(ViTFolderTest, WeightsThatAreMissingOrDoNotFitAreNamed) {
  Change("config.json", [](json& c) { c["num_hidden_layers"] = 4; });
  ExpectRefused("model.safetensors", "is missing");
  SetUp();
  Change("config.json", [](json& c) { c["qkv_bias"] = false; });
  ExpectRefused("model.safetensors", "is in the file but not in the network");
  SetUp();
  fs::resize_file(folder_ / "model.safetensors", 5000);
  ExpectRefused("model.safetensors", "truncated");
  SetUp();
  fs::remove(folder_ / "model.safetensors");
  ExpectRefused("", "not found, nor its .index.json, nor a .bin");
  std::ofstream(folder_ / "pytorch_model.bin") << "version https://git-lfs.github.com/spec/v1";
  ExpectRefused("pytorch_model.bin", "a pointer of Git LFS");
}

}  // namespace
}  // namespace loupe::worker
