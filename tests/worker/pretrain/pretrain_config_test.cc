#include "worker/pretrain/pretrain_config.h"

#include <unistd.h>

#include <filesystem>

#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe::worker::pretrain {
namespace {

using ::testing::HasSubstr;

class PretrainConfigTest : public ::testing::Test {
 protected:
  absl::StatusOr<PretrainConfig> Read(const std::string& text) {
    EXPECT_TRUE(WriteFileAtomically(path_, text).ok());
    return PretrainConfig::Read(path_);
  }
  void ExpectRefused(const std::string& text, const std::string& message) {
    const auto config = Read(text);
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_THAT(std::string(config.status().message().data(), config.status().message().size()), HasSubstr(message));
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string path_ =
      std::filesystem::temp_directory_path() / ("loupe_pretrain_" + std::to_string(::getpid()) + ".yaml");
};

TEST_F(PretrainConfigTest, ShippedFilesAreValid) {
  for (const char* name : {"emoji-sd", "emoji-clip", "emoji-dit", "emoji-diffussm", "world-sd", "world-sd-cpu"}) {
    const auto config = PretrainConfig::Read(std::string("configs/bases/") + name + ".yaml");
    EXPECT_TRUE(config.ok()) << config.status();
  }
}

TEST_F(PretrainConfigTest, UnknownKeyIsNamedWithItsLineAndSection) {
  ExpectRefused("items: x\nvae:\n  chanels: [8]\n", ":3: unknown key 'chanels' in 'vae'");
}

TEST_F(PretrainConfigTest, ValuesOfTheWrongKindOrOutOfRangeAreNamed) {
  ExpectRefused("items: x\nvae: {steps: many}\n", "key 'steps' is not a whole number");
  ExpectRefused("items: x\nvae: {batch: 0}\n", "key 'batch' is 0, expected 1 to 65536");
  ExpectRefused("items: x\nvae: 7\n", "expected a mapping");
  ExpectRefused("items: x\nvae: {checkpoint_every: 30, look_every: 100}\n", "not a multiple");
}

TEST_F(PretrainConfigTest, PrecisionIsOneOfTwo) {
  ExpectRefused("items: x\nvae: {precision: fp16}\n", "key 'precision' is 'fp16', expected float32 or bf16");
  const auto config = Read("items: x\nvae: {precision: bf16}\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->vae.options.precision, torch::kBFloat16);
  EXPECT_EQ(config->vae.schedule.rates.muon_precision, torch::kBFloat16);
  EXPECT_EQ(config->unet.options.precision, torch::kFloat32);
}

TEST_F(PretrainConfigTest, PartsThatNeedOthersAreRefusedWithoutThem) {
  ExpectRefused("seed: 1\n", "expected one of 'items'");
  ExpectRefused("items: x\nclip: {}\n", "'clip' needs a 'tokenizer'");
  ExpectRefused("items: x\nunet: {}\n", "'unet' needs a 'vae'");
  ExpectRefused("items: x\ntokenizer: {}\nvae: {}\nunet: {}\n", "'unet' needs a text tower");
  ExpectRefused("items: x\nvae: {from: a, init_from: b}\n", "exclude each other");
}

TEST_F(PretrainConfigTest, MissingFileIsNotFound) {
  EXPECT_EQ(PretrainConfig::Read("/nowhere/a.yaml").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace loupe::worker::pretrain
