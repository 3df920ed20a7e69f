// LoRAs in other programs' files: what is written comes back, what older programs wrote is read, and what is no LoRA of
// the base is refused with a sentence. That diffusers and peft read them is tests/parity/lora_files_test.py's.
#include "worker/methods/files/lora_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/worker/methods/small_network.h"
#include "worker/methods/lora.h"
#include "worker/methods/method_registry.h"
#include "worker/models/weights.h"

namespace loupe::worker::methods {
namespace {

using ::testing::HasSubstr;
using Arrays = std::map<std::string, torch::Tensor>;

constexpr char kToQ[] = "transformer.transformer_blocks.0.attn1.to_q";

class LoraFilesTest : public ::testing::Test {
 protected:
  LoraFilesTest() : folder_(::testing::TempDir() + "lora_files_test"), sites_(nn::SitesIn(*network_)) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~LoraFilesTest() override { std::filesystem::remove_all(folder_); }

  // Trained a little, as it were.
  files::LoraFile Make(const std::map<std::string, std::string>& more) {
    std::map<std::string, std::string> values = {{"method.kind", "lora"}};
    for (const auto& [key, value] : more) values[key] = value;
    const settings::Settings settings = MethodSettings(values);
    auto arrays = MakeMethod(sites_, {{settings, 3}}, torch::kCPU)->Export(0);
    for (auto& [name, value] : arrays) value = value + torch::randn_like(value);
    return LoraFileOf(arrays, settings);
  }
  std::string Write(const std::string& name, const Arrays& arrays, const io::Metadata& metadata = {}) {
    const std::string path = folder_ + "/" + name;
    const auto status = io::WriteSafetensors(path, models::ToArrays(arrays).views, metadata);
    TORCH_CHECK(status.ok(), status.ToString());
    return path;
  }
  // [64, 64] of rank 2, under the names of `down` and `up`.
  Arrays Pair(const std::string& down, const std::string& up) {
    return {{down, torch::ones({2, 64})}, {up, torch::ones({64, 2})}};
  }
  std::string Refused(const std::string& path) { return std::string(files::ReadLora(path, sites_).status().message()); }

  const std::string folder_;
  SmallNetwork network_;
  const nn::TuningSites sites_;
};

void ExpectSame(const files::LoraFile& found, const files::LoraFile& expected) {
  ASSERT_EQ(found.layers.size(), expected.layers.size());
  for (const auto& [name, layer] : expected.layers) {
    ASSERT_TRUE(found.layers.contains(name)) << name;
    const files::LoraLayer& other = found.layers.at(name);
    EXPECT_TRUE(other.a.equal(layer.a)) << name;
    EXPECT_TRUE(other.b.equal(layer.b)) << name;
    EXPECT_EQ(other.magnitude.defined(), layer.magnitude.defined());
    if (layer.magnitude.defined()) {
      EXPECT_TRUE(other.magnitude.equal(layer.magnitude)) << name;
    }
    // alpha goes through float32 in kohya's files.
    EXPECT_NEAR(other.scale, layer.scale, 1e-6) << name;
  }
}

TEST_F(LoraFilesTest, WhatIsWrittenComesBack) {
  for (const auto& values : {std::map<std::string, std::string>{},
                             {{"method.targets", "all"}, {"method.alpha", "3"}, {"method.rank", "2"}},
                             {{"method.targets", "linear"}, {"method.rslora", "true"}, {"method.rank", "8"}},
                             {{"method.targets", "all"}, {"method.dora", "true"}}}) {
    const files::LoraFile lora = Make(values);
    ASSERT_TRUE(files::WriteDiffusersLora(folder_, lora).ok());
    ASSERT_TRUE(files::WritePeftLora(folder_, lora).ok());
    ASSERT_TRUE(files::WriteKohyaLora(folder_, lora).ok());
    for (const char* name :
         {"/pytorch_lora_weights.safetensors", "", "/adapter_model.safetensors", "/lora.safetensors"}) {
      SCOPED_TRACE(name);
      const auto found = files::ReadLora(folder_ + name, sites_);
      ASSERT_TRUE(found.ok()) << found.status();
      ExpectSame(*found, lora);
      EXPECT_EQ(found->rslora, lora.rslora && std::string(name) != "/lora.safetensors");
    }
  }
}

TEST_F(LoraFilesTest, AFileAttachesWithItsOwnRanksAndScales) {
  files::LoraFile lora = Make({{"method.targets", "all"}});
  files::LoraLayer& one = lora.layers.at(std::string("unet.") + kToQ);
  one = {torch::randn({7, 64}), torch::randn({64, 7}), {}, 0.25};
  ASSERT_TRUE(files::WriteDiffusersLora(folder_, lora).ok());
  const auto read = files::ReadLora(folder_ + "/pytorch_lora_weights.safetensors", sites_);
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectSame(*read, lora);
  const SmallInputs in = MakeInputs(2, 5);
  const auto plain = network_(in.x, in.time, in.context);
  const auto method = MakeLoraOf(*read, sites_, nn::SlotRange{}, torch::kCPU);
  EXPECT_GT((network_(in.x, in.time, in.context) - plain).abs().max().item<double>(), 1e-3);
  BaseWeights weights;
  for (const auto& item : network_->named_parameters()) weights.denoiser[item.key()] = item.value();
  const auto before = weights.denoiser.at(std::string(kToQ) + ".weight");
  ASSERT_TRUE(method->Merge(0, weights).ok());
  const auto expected = before + 0.25 * one.b.mm(one.a);
  EXPECT_TRUE(weights.denoiser.at(std::string(kToQ) + ".weight").allclose(expected, 1e-5, 1e-5));
}

// Names as diffusers 0.12 … 0.30 and kohya's scripts wrote them.
TEST_F(LoraFilesTest, OlderNamesAreRead) {
  const std::string block = "transformer.transformer_blocks.0.attn1.";
  int number = 0;
  for (const auto& [down, up, layer] : std::vector<std::tuple<std::string, std::string, std::string>>{
           {block + "processor.to_q_lora.down.weight", block + "processor.to_q_lora.up.weight", "to_q"},
           {"unet." + block + "processor.to_out_lora.down.weight", "unet." + block + "processor.to_out_lora.up.weight",
            "to_out.0"},
           {"unet." + block + "to_v.lora.down.weight", "unet." + block + "to_v.lora.up.weight", "to_v"},
           {"unet." + block + "to_out.0.lora_A.weight", "unet." + block + "to_out.0.lora_B.weight", "to_out.0"},
           {"base_model.model." + block + "to_k.lora_A.weight", "base_model.model." + block + "to_k.lora_B.weight",
            "to_k"},
           {"lora_unet_transformer_transformer_blocks_0_attn1_to_out_0.lora_down.weight",
            "lora_unet_transformer_transformer_blocks_0_attn1_to_out_0.lora_up.weight", "to_out.0"}}) {
    SCOPED_TRACE(down);
    const auto found = files::ReadLora(Write(std::to_string(++number) + ".safetensors", Pair(down, up)), sites_);
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_EQ(found->layers.size(), 1u);
    EXPECT_EQ(found->layers.begin()->first, "unet." + block + layer);
    EXPECT_EQ(found->layers.begin()->second.scale, 1) << "without an alpha, alpha is the rank";
  }
}

TEST_F(LoraFilesTest, HalfPrecisionAndSquareOnesAreRead) {
  const auto found = files::ReadLora(
      Write("a.safetensors", {{"unet.first.conv_shortcut.lora_A.weight", torch::ones({2, 32}).to(torch::kHalf)},
                              {"unet.first.conv_shortcut.lora_B.weight", torch::ones({64, 2, 1, 1})},
                              {"unet.first.conv_shortcut.alpha", torch::tensor(1.0)}}),
      sites_);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->layers.begin()->second.a.sizes(), (std::vector<int64_t>{2, 32, 1, 1}));
  EXPECT_EQ(found->layers.begin()->second.a.scalar_type(), torch::kFloat32);
  EXPECT_EQ(found->layers.begin()->second.scale, 0.5);
}

TEST_F(LoraFilesTest, WhatIsNoLoraOfTheBaseIsRefused) {
  const std::string a = std::string("unet.") + kToQ + ".lora_A.weight",
                    b = std::string("unet.") + kToQ + ".lora_B.weight";
  EXPECT_THAT(Refused(folder_ + "/none.safetensors"), HasSubstr("none.safetensors"));
  EXPECT_THAT(Refused(folder_), HasSubstr("a folder without adapter_config.json"));
  EXPECT_THAT(Refused(Write("a.safetensors", {})), HasSubstr("holds no arrays of a LoRA"));
  EXPECT_THAT(Refused(Write("a.safetensors", {{a, torch::ones({2, 64})}})), HasSubstr("up, or lora_B is missing"));
  EXPECT_THAT(Refused(Write("a.safetensors", {{a, torch::ones({2, 60})}, {b, torch::ones({64, 2})}})),
              HasSubstr("shapes [2, 60] and [64, 2], which do not fit the base's weight [64, 64]"));
  EXPECT_THAT(Refused(Write("a.safetensors", {{a, torch::ones({2, 64})}, {b, torch::ones({64, 3})}})),
              HasSubstr("do not fit"));
  EXPECT_THAT(Refused(Write("a.safetensors", Pair("unet.elsewhere.lora_A.weight", "unet.elsewhere.lora_B.weight"))),
              HasSubstr("the base has no layer 'elsewhere'"));
  EXPECT_THAT(Refused(Write("a.safetensors", Pair("lora_te2_x.lora_down.weight", "lora_te2_x.lora_up.weight"))),
              HasSubstr("two text encoders"));
  EXPECT_THAT(Refused(Write("a.safetensors", {{std::string(kToQ) + ".hada_w1_a", torch::ones({2, 2})}})),
              HasSubstr("a LoHa"));
  EXPECT_THAT(Refused(Write("a.safetensors", {{"conv_in.weight", torch::ones({2, 2})}})),
              HasSubstr("is no array of a LoRA"));
  EXPECT_THAT(Refused(Write("a.safetensors", {{a, torch::full({2, 64}, NAN)}, {b, torch::ones({64, 2})}})),
              HasSubstr("the LoRA is broken"));
  EXPECT_THAT(Refused(Write("a.safetensors", {{a, torch::ones({2, 64}, torch::kInt64)}, {b, torch::ones({64, 2})}})),
              HasSubstr("expected floats"));
  EXPECT_THAT(Refused(Write("a.safetensors", Pair(a, b), {{"lora_adapter_metadata", "[1]"}})),
              HasSubstr("no JSON object"));
  EXPECT_THAT(Refused(Write("a.safetensors", Pair(a, b),
                            {{"lora_adapter_metadata", R"({"unet.r": 2, "unet.lora_alpha": "x"})"}})),
              HasSubstr("not of the type that peft writes"));
  EXPECT_THAT(
      Refused(Write("a.safetensors", Pair(a, b), {{"lora_adapter_metadata", R"({"unet.r": 2, "unet.bias": "all"})"}})),
      HasSubstr("bias is \"all\""));
}

TEST_F(LoraFilesTest, PeftConfigurationsOfOtherKindsAreRefused) {
  Write("adapter_model.safetensors", {});
  const auto config = [&](const char* text) {
    std::ofstream(folder_ + "/adapter_config.json") << text;
    return Refused(folder_);
  };
  EXPECT_THAT(config(R"({"peft_type": "LOHA", "r": 2})"), HasSubstr("peft_type is \"LOHA\"; expected LORA"));
  EXPECT_THAT(config(R"({"peft_type": "LORA"})"), HasSubstr("has no 'r'"));
  EXPECT_THAT(config(R"({"r": 2, "modules_to_save": ["conv_in"]})"), HasSubstr("modules_to_save is set"));
  EXPECT_THAT(config("no json"), HasSubstr("no JSON object"));
}

}  // namespace
}  // namespace loupe::worker::methods
