// Folders of class-conditional bases: right ones load, bad ones are answered with the file, the key and what is wrong.
#include "tests/testing/class_base.h"

#include <fstream>
#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/testing/temp_folder.h"
#include "worker/base/base_model.h"
#include "worker/io/json_config.h"

namespace loupe::worker::base {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class ClassBaseTest : public ::testing::Test {
 protected:
  // What loading says of a base of this kind whose file was changed.
  std::string After(io::BaseKind kind, const std::string& file, const std::function<void(nlohmann::json&)>& change) {
    const testing::TempFolder folder;
    WriteClassBase(folder / "base", kind, "{}", 3);
    nlohmann::json json = *io::ReadJsonFile(folder / ("base/" + file));
    change(json);
    std::ofstream(folder / ("base/" + file)) << json;
    const auto base = LoadBase(folder / "base");
    return base.ok() ? "loaded" : std::string(base.status().message());
  }
  std::string Without(io::BaseKind kind, const std::string& file) {
    const testing::TempFolder folder;
    WriteClassBase(folder / "base", kind, "{}", 3);
    std::filesystem::remove(folder / ("base/" + file));
    const auto base = LoadBase(folder / "base");
    return base.ok() ? "loaded" : std::string(base.status().message());
  }
};

TEST_F(ClassBaseTest, BothKindsLoad) {
  for (const io::BaseKind kind : {io::BaseKind::kDiT, io::BaseKind::kDiffuSSM}) {
    const testing::TempFolder folder;
    WriteClassBase(folder / "base", kind, "{}", 3);
    auto base = LoadBase(folder / "base");
    ASSERT_TRUE(base.ok()) << base.status();
    EXPECT_EQ(base->kind, kind);
    EXPECT_EQ(base->image_size(), 64);
    EXPECT_TRUE(base->denoiser->PredictsVariance());
    for (const auto& parameter : base->denoiser->network().parameters()) EXPECT_FALSE(parameter.requires_grad());
  }
}

TEST_F(ClassBaseTest, MissingFilesAreNamed) {
  for (const char* file : {"transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json",
                           "transformer/diffusion_pytorch_model.safetensors"}) {
    EXPECT_THAT(Without(io::BaseKind::kDiT, file), HasSubstr(file));
  }
  EXPECT_THAT(Without(io::BaseKind::kDiffuSSM, "ssm/config.json"), HasSubstr("ssm/config.json"));
}

TEST_F(ClassBaseTest, UnsupportedValuesNameTheKey) {
  const std::string file = "transformer/config.json";
  const auto after = [&](const char* key, const nlohmann::json& value) {
    return After(io::BaseKind::kDiT, file, [&](nlohmann::json& config) { config[key] = value; });
  };
  EXPECT_THAT(after("norm_type", "ada_norm_single"), AllOf(HasSubstr(file), HasSubstr("'norm_type'")));
  EXPECT_THAT(after("sample_size", 15), AllOf(HasSubstr("'sample_size'"), HasSubstr("a multiple of patch_size (2)")));
  EXPECT_THAT(after("out_channels", 5), HasSubstr("out_channels is 5"));
  EXPECT_THAT(after("in_channels", 8), HasSubstr("the DiT's in_channels is 8, but the VAE's latent_channels is 4"));
  EXPECT_THAT(after("num_layers", 3), HasSubstr("'transformer_blocks.2."));
  EXPECT_THAT(after("rope", true), HasSubstr("'rope'"));
  // An older class whose defaults are other transformers'.
  EXPECT_THAT(after("_class_name", "Transformer2DModel"), HasSubstr("'norm_type'"));
  EXPECT_THAT(after("_class_name", "PixArtTransformer2DModel"), HasSubstr("'_class_name'"));
  EXPECT_THAT(After(io::BaseKind::kDiffuSSM, "ssm/config.json", [](nlohmann::json& c) { c["hourglass"] = 4; }),
              HasSubstr("'x_embedder.weight' has shape [16, 8], expected [16, 16]"));
}

}  // namespace
}  // namespace loupe::worker::base
