// What a base has not, said of the plan; and the arithmetic that a plan counts with.
#include "cli/base_check.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "cli/cost_estimate.h"
#include "common/atomic_file.h"
#include "coordinator/plan/sweep_file.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"

namespace loupe::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class BaseCheckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Write("dit/transformer/config.json", R"({"num_embeds_ada_norm": 5})");
    Write("ssm/ssm/config.json", R"({"num_classes": 5, "hidden_size": 8, "num_layers": 2, "sample_size": 4})");
    Write("dit/model_index.json",
          R"({"transformer": ["diffusers", "DiTTransformer2DModel"], "id2label": {"0": "cat"}})");
  }
  void Write(const std::string& file, const std::string& text) {
    const std::string path = folder_ / file;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
  }
  std::string Check(const std::string& base, const std::string& task, const std::string& factors) {
    const std::string text = fmt::format(
        "base: {}\nscorer: s\ntask: {{images: i, {}}}\nmethod: {{kind: adapter, width: 4}}\nfactors: {{{}}}\n"
        "budget: {{steps: 1}}\nseed: 1\nname: test\nreplicates: 1\n",
        folder_ / base, task, factors);
    const auto file = coordinator::plan::ParseSweepFile(text, "f");
    if (!file.ok()) return "file: " + file.status().ToString();
    const auto plan = coordinator::plan::Plan::Create(file->spec);
    if (!plan.ok()) return "plan: " + plan.status().ToString();
    return std::string(CheckBases(*plan).message());
  }

  loupe::testing::TempFolder folder_;
};

TEST_F(BaseCheckTest, PositionsThatAreNotThere) {
  const std::string classes = "kind: classes";
  EXPECT_EQ(Check("dit", classes, "input: [SA_in], output: [FFN_in, Trans_out]"), "");
  EXPECT_THAT(
      Check("dit", classes, "input: [SA_in, CA_out], output: [FFN_in]"),
      AllOf(HasSubstr("is a DiT"), HasSubstr("no CA_out"), HasSubstr("SA_in, SA_out, FFN_in, FFN_out, Trans_out")));
  EXPECT_THAT(Check("ssm", classes, "input: [SA_in], output: [FFN_in]"),
              AllOf(HasSubstr("method.output"), HasSubstr("is a DiffuSSM"), HasSubstr("SA_in, Trans_out")));
  EXPECT_EQ(Check("elsewhere", classes, "input: [CA_out], output: [FFN_in]"), "") << "nothing is known of it";
}

TEST_F(BaseCheckTest, TasksThatItCannotBeTold) {
  const std::string factors = "input: [SA_in], output: [FFN_in]";
  EXPECT_THAT(Check("dit", "kind: finetune", factors), HasSubstr("use classes"));
  EXPECT_THAT(Check("dit", "instance_prompt: sks, class_prompt: cat", factors),
              AllOf(HasSubstr("task.instance_prompt"), HasSubstr("'sks' is no class"), HasSubstr("0 to 4")));
  EXPECT_EQ(Check("dit", "instance_prompt: 3, class_prompt: cat", factors), "");
}

// At another size of pictures the latents are larger: DiT-XL/2 at 512 pixels, table 1 of arXiv 2212.09748's 524.60
// Gflops.
TEST_F(BaseCheckTest, TheCostIsThatOfThePicturesSize) {
  Write("dit/vae/config.json", R"({"block_out_channels": [128, 256, 512, 512]})");
  const auto basis = [&](int size) {
    const auto file = coordinator::plan::ParseSweepFile(
        fmt::format(
            "base: {}\nscorer: s\ntask: {{images: i, kind: classes, picture_size: {}}}\nmethod: {{kind: bitfit}}\n"
            "factors: {{train.learning_rate: [1, 2]}}\nbudget: {{steps: 1}}\nseed: 1\nname: test\nreplicates: 1\n",
            folder_ / "dit", size),
        "f");
    if (!file.ok()) return file.status().ToString();
    const auto plan = coordinator::plan::Plan::Create(file->spec);
    if (!plan.ok()) return plan.status().ToString();
    const auto cost = EstimateTrialCost(*plan, 1);
    return cost.ok() ? cost->basis : cost.status().ToString();
  };
  EXPECT_THAT(basis(0), HasSubstr("(237 GFLOP per pass of the DiT"));
  EXPECT_THAT(basis(512), HasSubstr("(1.05e+03 GFLOP per pass of the DiT"));
  const auto work = DenoiserWork(worker::io::BaseKind::kDiT, R"({"out_channels": 8})", 0, 64);
  ASSERT_TRUE(work.ok()) << work.status();
  EXPECT_NEAR(TotalMultiplyAdds(*work) / 1e9, 524.60, 0.2);
}

TEST(NetworkWorkTest, CountsAsWrittenByHand) {
  // DiT-XL/2 at 256 pixels: 118.6 G multiply-adds (arXiv 2212.09748 table 1: 118.64 Gflops).
  const auto dit = DenoiserWork(worker::io::BaseKind::kDiT, R"({"out_channels": 8})", 0);
  ASSERT_TRUE(dit.ok()) << dit.status();
  EXPECT_NEAR(TotalMultiplyAdds(*dit) / 1e9, 118.64, 0.05);
  // The built-in base's: as earlier versions of this program count it.
  const auto config = ReadFile("configs/bases/emoji-sd/unet/config.json");
  const auto unet = DenoiserWork(worker::io::BaseKind::kUNet, *config, 32);
  ASSERT_TRUE(unet.ok()) << unet.status();
  EXPECT_DOUBLE_EQ(TotalFlops(*unet), 716734464);
  EXPECT_NEAR(TotalWeights(*unet) / 1e6, 6.08, 0.03);  // its model card; biases and norms are not counted
  const auto ssm = DenoiserWork(worker::io::BaseKind::kDiffuSSM,
                                R"({"hidden_size": 1152, "num_layers": 29, "sample_size": 32, "hourglass": 2})", 0);
  ASSERT_TRUE(ssm.ok()) << ssm.status();
  EXPECT_NEAR(TotalWeights(*dit) / 1e6, 674.8, 1);
  EXPECT_NEAR(TotalWeights(*ssm) / 1e6, 707.3, 3);
  // Stable Diffusion XL, its published config: 2,567,463,684 parameters.
  const auto xl = DenoiserWork(worker::io::BaseKind::kUNet, R"({"in_channels": 4, "out_channels": 4, "sample_size": 128,
    "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048, "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10], "addition_embed_type": "text_time",
    "projection_class_embeddings_input_dim": 2816,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]})",
                               77);
  ASSERT_TRUE(xl.ok()) << xl.status();
  EXPECT_NEAR(TotalWeights(*xl) / 1e6, 2567.46, 2);
  for (const LayerWork& layer : *ssm) {
    if (layer.kind == "dense") {
      EXPECT_DOUBLE_EQ(layer.multiply_adds, 29 * 7.5 * 1024 * 1152 * 1152);
    }
  }
}

}  // namespace
}  // namespace loupe::cli
