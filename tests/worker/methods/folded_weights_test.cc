// Folding: the base with changed weights is the base with the adapter attached; names in the original code's layout.
#include "worker/methods/folded_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/utils.h>

#include <filesystem>

#include "common/atomic_file.h"
#include "tests/worker/methods/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/methods/files/module_files.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker::methods {
namespace {

using ::testing::HasSubstr;

using Weights = std::map<std::string, torch::Tensor>;

settings::Settings Cell(const std::string& input, const std::string& output,
                        const std::string& activation = "identity") {
  return CellSettings(
      {{"method.input", input}, {"method.output", output}, {"method.activation", activation}, {"method.scale", "0.5"}});
}

class FoldedWeightsTest : public ::testing::Test {
 protected:
  FoldedWeightsTest() : base_(train::MakeSmallBase()) {
    runtime::RandomStream stream(3);
    latents_ = stream.Normal({2, 4, 8, 8});
    context_ = stream.Normal({2, 5, 16});
  }
  torch::Tensor Predict() {
    torch::NoGradGuard no_grad;
    return base_.unet(latents_, torch::tensor({int64_t{100}, int64_t{700}}), context_);
  }
  // An adapter with random values in both layers.
  files::AdapterFile Adapter(const settings::Settings& settings) {
    files::AdapterFile file;
    file.settings = settings;
    file.arrays = MakeMethod(nn::SitesIn(*base_.unet), {{settings, 5}}, torch::kCPU)->Export(0);
    return file;
  }
  Weights UNetWeights() {
    Weights weights;
    for (const auto& item : base_.unet->named_parameters()) weights[item.key()] = item.value();
    return weights;
  }
  std::string Error(const settings::Settings& settings) {
    Weights weights = UNetWeights();
    return std::string(FoldAdapter(Adapter(settings), weights).message());
  }

  base::BaseModel base_;
  torch::Tensor latents_, context_;
};

TEST_F(FoldedWeightsTest, EveryPairThatCanBeFoldedPredictsAsTheAttachedAdapter) {
  const torch::Tensor untuned = Predict();
  const std::vector<std::pair<std::string, std::string>> pairs = {{"SA_in", "SA_in"},       {"SA_out", "CA_in"},
                                                                  {"CA_c", "CA_c"},         {"CA_out", "FFN_in"},
                                                                  {"FFN_out", "Trans_out"}, {"Trans_out", "Trans_out"}};
  for (const auto& [input, output] : pairs) {
    SCOPED_TRACE(input + " → " + output);
    base::BaseModel folded = train::MakeSmallBase();
    const files::AdapterFile file = Adapter(Cell(input, output));
    torch::Tensor attached;
    {
      const auto method = MakeMethod(nn::SitesIn(*base_.unet), {{file.settings, 5}}, torch::kCPU);
      attached = Predict();
    }
    Weights weights = UNetWeights();
    const auto status = FoldAdapter(file, weights);
    ASSERT_TRUE(status.ok()) << status;
    torch::NoGradGuard no_grad;
    for (auto& item : folded.unet->named_parameters()) item.value().copy_(weights.at(item.key()));
    const auto found = folded.unet(latents_, torch::tensor({int64_t{100}, int64_t{700}}), context_);
    EXPECT_GT((attached - untuned).abs().max().item<double>(), 1e-2) << "the adapter does something";
    // Rounding of float32 in sums of another order.
    EXPECT_LT((found - attached).abs().max().item<double>(), 2e-5);
  }
}

TEST_F(FoldedWeightsTest, WhatIsNotOneLinearLayerIsRefusedWithItsReason) {
  EXPECT_THAT(Error(Cell("CA_out", "FFN_in", "relu")), HasSubstr("activation relu cannot be folded"));
  EXPECT_THAT(Error(Cell("CA_out", "FFN_in", "relu")), HasSubstr("it is not linear"));
  EXPECT_THAT(Error(Cell("SA_in", "Trans_out")), HasSubstr("no single layer"));
  EXPECT_THAT(Error(Cell("Res_in", "Res_out")), HasSubstr("no single layer"));
}

TEST_F(FoldedWeightsTest, AnAdapterOfAnotherBaseIsRefusedAndNothingIsChanged) {
  files::AdapterFile file = Adapter(Cell("CA_out", "FFN_in"));
  file.arrays["elsewhere.transformer_blocks.0.adapter.down.weight"] = torch::zeros({4, 32});
  Weights weights = UNetWeights();
  const Weights before = weights;
  const auto status = FoldAdapter(file, weights);
  EXPECT_THAT(std::string(status.message()), HasSubstr("elsewhere.transformer_blocks.0"));
  for (const auto& [name, value] : before) EXPECT_TRUE(weights.at(name).is_same(value)) << name;
}

// Expected names: the published config v1-inference.yaml's UNet (two residual blocks per level), counted by hand.
TEST(ModuleFilesTest, BlocksHaveTheNamesOfTheOriginalCode) {
  const auto name = [](const char* ours) { return files::OriginalModuleName(ours, 2); };
  EXPECT_EQ(name("down_blocks.0.attentions.0.transformer_blocks.0"), "input_blocks.1.1.transformer_blocks.0");
  EXPECT_EQ(name("down_blocks.2.attentions.1.transformer_blocks.0"), "input_blocks.8.1.transformer_blocks.0");
  EXPECT_EQ(name("down_blocks.3.resnets.1"), "input_blocks.11.0");
  EXPECT_EQ(name("mid_block.attentions.0.transformer_blocks.0"), "middle_block.1.transformer_blocks.0");
  EXPECT_EQ(name("mid_block.resnets.1"), "middle_block.2");
  EXPECT_EQ(name("up_blocks.1.attentions.2.transformer_blocks.0"), "output_blocks.5.1.transformer_blocks.0");
  EXPECT_EQ(name("up_blocks.3.resnets.2"), "output_blocks.11.0");
  EXPECT_EQ(name("conv_in"), "");
}

TEST_F(FoldedWeightsTest, ModuleFilesHoldEachBlocksLayersUnderTheOriginalKeys) {
  const std::string folder = ::testing::TempDir() + "module_files_test";
  std::filesystem::remove_all(folder);
  for (const auto& [input, output] : {std::pair{"CA_out", "FFN_in"}, std::pair{"Res_in", "Res_out"}}) {
    std::filesystem::create_directories(folder);
    const files::AdapterFile file = Adapter(Cell(input, output, "relu"));
    const auto status = files::WriteModuleFiles(folder, file, 1);
    ASSERT_TRUE(status.ok()) << status;
    const bool residual = std::string(input) == "Res_in";
    const std::string path =
        residual ? "input_blocks.1.0.adapter.pt" : "input_blocks.1.1.transformer_blocks.0.adapter_inout.pt";
    const std::string bytes = *ReadFile(folder + "/" + path);
    const auto entries = torch::jit::pickle_load({bytes.begin(), bytes.end()}).toGenericDict();
    const std::string block = residual ? "down_blocks.0.resnets.0" : "down_blocks.0.attentions.0.transformer_blocks.0";
    EXPECT_EQ(entries.size(), residual ? 6u : 4u);
    const auto up = entries.at(residual ? "4.weight" : "adp.2.weight").toTensor();
    EXPECT_TRUE(torch::equal(up, file.arrays.at(block + ".adapter.up.weight")));
    std::filesystem::remove_all(folder);
  }
}

}  // namespace
}  // namespace loupe::worker::methods
