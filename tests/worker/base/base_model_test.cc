// Bad folders, each answered with the file and what is wrong in it. (Right ones: tests/parity.)
#include "worker/base/base_model.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "worker/io/json_config.h"
#include "worker/models/weights.h"
#include "worker/nn/tappable.h"

namespace loupe::worker::base {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class BaseModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    folder_ = fs::path(::testing::TempDir()) / "base_model_test";
    fs::remove_all(folder_);
    fs::copy("configs/bases/emoji-sd", folder_, fs::copy_options::recursive);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Change(const std::string& file, const std::function<void(json&)>& change) {
    json config = *io::ReadJsonFile((folder_ / file).string());  // not json::parse: Python's files may say -Infinity
    change(config);
    std::ofstream(folder_ / file) << config;
  }
  void ExpectRefused(const std::string& file, const std::string& why) {
    const auto base = LoadBase(folder_.string());
    ASSERT_FALSE(base.ok());
    const std::string path = file.empty() ? folder_.string() : (folder_ / file).string();
    EXPECT_THAT(std::string(base.status().message()), AllOf(HasSubstr(path), HasSubstr(why)));
  }

  fs::path folder_;
};

TEST_F(BaseModelTest, BuiltInBaseLoadsAndFreezes) {
  auto base = LoadBase(folder_.string());
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(base->denoiser->Shape().back(), 16);
  EXPECT_EQ(base->image_size(), 64);
  EXPECT_EQ(base->conditioner->Ids({""}).size(1), 32);
  for (const auto& parameter : base->unet->parameters()) EXPECT_FALSE(parameter.requires_grad());
  const auto blocks = nn::TappableBlocksIn(*base->unet);
  const auto transformers = std::count_if(blocks.begin(), blocks.end(), [](const nn::TappableBlock& block) {
    return block.kind == nn::BlockKind::kTransformer;
  });
  EXPECT_EQ(transformers, 7);
  EXPECT_EQ(blocks.front().name, "down_blocks.0.resnets.0");
  EXPECT_EQ(base->EncodeText({"red heart", ""}).sizes(), (std::vector<int64_t>{2, 32, 128}));
  const auto latents = base->EncodePictures(torch::zeros({1, 3, 64, 64}));
  EXPECT_EQ(latents.sizes(), (std::vector<int64_t>{1, 4, 16, 16}));
  EXPECT_EQ(base->DecodeLatents(latents).sizes(), (std::vector<int64_t>{1, 3, 64, 64}));
}

TEST_F(BaseModelTest, MissingFilesAreNamed) {
  for (const char* file : {"unet/config.json", "vae/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt",
                           "scheduler/scheduler_config.json", "text_encoder/model.safetensors"}) {
    SetUp();
    fs::remove(folder_ / "tokenizer/tokenizer.json");  // which would do without merges.txt
    fs::remove(folder_ / file);
    ExpectRefused(file, "");
    EXPECT_EQ(LoadBase(folder_.string()).status().code(), absl::StatusCode::kNotFound) << file;
  }
}

TEST_F(BaseModelTest, UnsupportedSettingsNameFileAndKey) {
  Change("unet/config.json", [](json& c) { c["act_fn"] = "relu"; });
  ExpectRefused("unet/config.json", "key 'act_fn' is \"relu\", expected \"silu\"");
  SetUp();
  Change("unet/config.json", [](json& c) { c["some_new_switch"] = true; });
  ExpectRefused("unet/config.json", "'some_new_switch'");
  SetUp();
  Change("unet/config.json", [](json& c) { c["down_block_types"][0] = "SimpleCrossAttnDownBlock2D"; });
  ExpectRefused("unet/config.json", "'down_block_types'");
  SetUp();
  Change("unet/config.json", [](json& c) { c["attention_head_dim"] = 7; });
  ExpectRefused("unet/config.json", "'attention_head_dim' is 7");
  SetUp();
  Change("vae/config.json", [](json& c) { c["shift_factor"] = 0.1; });
  ExpectRefused("vae/config.json", "'shift_factor'");
  SetUp();
  Change("scheduler/scheduler_config.json", [](json& c) { c["beta_schedule"] = "sigmoid"; });
  ExpectRefused("scheduler/scheduler_config.json", "'beta_schedule'");
  SetUp();
  Change("text_encoder/config.json", [](json& c) { c["hidden_act"] = "relu"; });
  ExpectRefused("text_encoder/config.json", "'hidden_act'");
}

TEST_F(BaseModelTest, AnotherModelFamilyIsRefused) {
  Change("unet/config.json", [](json& c) { c = {{"_class_name", "DiTTransformer2DModel"}, {"num_layers", 28}}; });
  ExpectRefused("unet/config.json",
                "expected \"UNet2DConditionModel\"; a base must have the architecture of Stable Diffusion");
}

TEST_F(BaseModelTest, AFolderOfAnotherKindIsToldWhatWasExpected) {
  fs::remove_all(folder_);
  ExpectRefused("unet/config.json", "not found; expected the folder of a base in the diffusers layout");
  const auto scorer = LoadClipScorer("configs/bases/emoji-sd");
  EXPECT_EQ(scorer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(scorer.status().message()),
              HasSubstr("emoji-sd/config.json: not found; expected the folder of a CLIP model"));
}

TEST_F(BaseModelTest, OutputsAreTheNoiseOrTheNoiseAndAVariance) {
  Change("unet/config.json", [](json& c) { c["out_channels"] = 6; });
  ExpectRefused("unet/config.json", "out_channels is 6, expected in_channels (4), or twice that");
  Change("unet/config.json", [](json& c) { c["out_channels"] = 8; });
  ExpectRefused("unet/diffusion_pytorch_model.safetensors", "'conv_out.bias' has shape [4], expected [8]");
}

TEST_F(BaseModelTest, WeightsOfAnotherShapeAreNamedWithBothShapes) {
  Change("vae/config.json", [](json& c) { c["latent_channels"] = 8; });
  ExpectRefused("", "its parts do not fit");
  SetUp();
  Change("unet/config.json", [](json& c) { c["cross_attention_dim"] = 96; });
  ExpectRefused("", "hidden_size is 128, but the UNet's cross_attention_dim is 96");
  SetUp();
  Change("unet/config.json", [](json& c) { c["block_out_channels"] = {64, 96, 192}; });
  ExpectRefused("unet/diffusion_pytorch_model.safetensors", "expected [");
  SetUp();
  Change("unet/config.json", [](json& c) { c["layers_per_block"] = 2; });
  ExpectRefused("unet/diffusion_pytorch_model.safetensors", "is missing");
  SetUp();
  Change("vae/config.json", [](json& c) { c["mid_block_add_attention"] = false; });
  ExpectRefused("vae/diffusion_pytorch_model.safetensors", "in the file but not in the network");
}

TEST_F(BaseModelTest, Float8IsReadAndIntegersAreNot) {
  const std::string path = (folder_ / "text_encoder/model.safetensors").string();
  const auto rewrite = [&](torch::ScalarType type) {
    std::map<std::string, torch::Tensor> tensors;
    {
      const auto file = io::SafetensorsFile::Open("configs/bases/emoji-sd/text_encoder/model.safetensors");
      ASSERT_TRUE(file.ok()) << file.status();
      for (const auto& [name, array] : file->arrays())
        tensors[name] = models::ToTensor(array).to(torch::kFloat32).to(type);
    }
    ASSERT_TRUE(io::WriteSafetensors(path, models::ToArrays(tensors).views, {}).ok());
  };
  auto original = LoadBase(folder_.string());
  ASSERT_TRUE(original.ok()) << original.status();
  for (const auto type : {torch::kFloat8_e4m3fn, torch::kFloat8_e5m2}) {
    rewrite(type);
    auto base = LoadBase(folder_.string());
    ASSERT_TRUE(base.ok()) << base.status();
    const auto expected = original->text_encoder->parameters().back();
    EXPECT_TRUE(base->text_encoder->parameters().back().equal(expected.to(type).to(torch::kFloat32)));
  }
  rewrite(torch::kUInt8);
  ExpectRefused("text_encoder/model.safetensors", "is of type U8, expected floats");
}

TEST_F(BaseModelTest, AnLfsPointerIsNamed) {
  for (const char* file :
       {"unet/diffusion_pytorch_model.safetensors", "unet/config.json", "tokenizer/tokenizer.json"}) {
    SetUp();
    std::ofstream(folder_ / file) << "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    ExpectRefused(file, "a pointer of Git LFS");
  }
}

TEST_F(BaseModelTest, TruncatedWeightsAreRefused) {
  fs::resize_file(folder_ / "unet/diffusion_pytorch_model.safetensors", 1'000'000);
  ExpectRefused("unet/diffusion_pytorch_model.safetensors", "truncated");
}

TEST(ClipScorerTest, OldConfigsHaveTheirTowersTwice) {
  const fs::path folder = fs::path(::testing::TempDir()) / "clip_scorer_test";
  fs::remove_all(folder);
  fs::copy("configs/scorers/emoji-clip", folder, fs::copy_options::recursive);
  json config = *io::ReadJsonFile((folder / "config.json").string());
  const auto load = [&] {
    std::ofstream(folder / "config.json") << config;
    return LoadClipScorer(folder.string());
  };
  config["text_config_dict"] = config["text_config"];
  config["vision_config_dict"] = nullptr;
  config["text_config"]["num_attention_heads"] = 2;  // passed over
  auto scorer = load();
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  EXPECT_EQ(scorer->clip->text_model->config().encoder.heads, 4);
  config["text_config_dict"].erase("hidden_size");  // then transformers' default, and not text_config's
  EXPECT_THAT(std::string(load().status().message()), HasSubstr("512"));
  fs::remove_all(folder);
}

TEST(ClipScorerTest, BuiltInScorerEmbedsPicturesAndTexts) {
  auto scorer = LoadClipScorer("configs/scorers/emoji-clip");
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  const io::Image image{20, 30, std::vector<uint8_t>(3 * 20 * 30, 90)};
  EXPECT_EQ(scorer->EmbedImages({image, image}).sizes(), (std::vector<int64_t>{2, 128}));
  EXPECT_EQ(scorer->EmbedTexts({"a cat"}).sizes(), (std::vector<int64_t>{1, 128}));
}

TEST(PictureTest, BytesSurviveTheWayThroughTensors) {
  io::Image image{16, 16, {}};
  for (int i = 0; i < 3 * 256; ++i) image.rgb.push_back(static_cast<uint8_t>(i % 256));
  const auto picture = PictureFromImage(image);
  EXPECT_EQ(picture.sizes(), (std::vector<int64_t>{3, 16, 16}));
  EXPECT_EQ(picture.min().item<float>(), -1.0f);
  EXPECT_EQ(picture.max().item<float>(), 1.0f);
  const auto images = ImagesFromPictures(torch::stack({picture, picture}));
  ASSERT_EQ(images.size(), 2u);
  EXPECT_EQ(images[1].rgb, image.rgb);
}

}  // namespace
}  // namespace loupe::worker::base
