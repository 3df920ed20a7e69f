// The adapter against the paper's formula written with torch.nn modules, and packs against solo runs.
#include "worker/methods/in_out_adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>

#include "common/positions.h"
#include "tests/worker/methods/small_network.h"
#include "worker/methods/adapter_size.h"
#include "worker/methods/method_registry.h"

namespace loupe::worker::methods {
namespace {

// float32 sums of a few hundred terms in another order differ by some 1e-6 of the values, which are of order 1.
constexpr double kFloatTolerance = 2e-5;

double LargestDifference(const torch::Tensor& a, const torch::Tensor& b) { return (a - b).abs().max().item<double>(); }

std::map<std::string, std::string> Cell(PositionPairId pair, const std::string& activation, const std::string& scale) {
  return {{"method.input", std::string(PositionName(pair.input))},
          {"method.output", std::string(PositionName(pair.output))},
          {"method.activation", activation},
          {"method.scale", scale}};
}

class InOutAdapterTest : public ::testing::Test {
 protected:
  // The tensors are tiny: threads would only wait for each other.
  InOutAdapterTest() { at::set_num_threads(1); }

  std::unique_ptr<Method> Attach(const std::vector<SlotOptions>& slots) {
    return MakeMethod(nn::SitesIn(*network_), slots, torch::kCPU);
  }
  torch::Tensor Forward(const SmallInputs& in) { return network_(in.x, in.time, in.context); }

  SmallNetwork network_;
};

TEST_F(InOutAdapterTest, EveryLegalPairChangesTheOutputAndGivesEveryParameterAGradient) {
  const SmallInputs in = MakeInputs(2, 5);
  const torch::Tensor plain = Forward(in);
  for (const PositionPairId& pair : LegalPairs()) {
    SCOPED_TRACE(std::string(PositionName(pair.input)) + " -> " + std::string(PositionName(pair.output)));
    const auto method = Attach({{CellSettings(Cell(pair, "silu", "2")), 3}});
    const torch::Tensor tuned = Forward(in);
    EXPECT_GT(LargestDifference(plain, tuned), 1e-3);
    tuned.square().mean().backward();
    for (const NamedParameter& parameter : method->parameters()) {
      ASSERT_TRUE(parameter.value.grad().defined()) << parameter.name;
      EXPECT_GT(parameter.value.grad().abs().max().item<double>(), 0) << parameter.name;
    }
    const MethodDisabled off(method.get());
    EXPECT_EQ(LargestDifference(plain, Forward(in)), 0);
  }
  EXPECT_EQ(LargestDifference(plain, Forward(in)), 0) << "a method that is gone leaves nothing behind";
}

TEST_F(InOutAdapterTest, ZeroInitialisationStartsFromTheUnchangedBase) {
  const SmallInputs in = MakeInputs(2, 5);
  const torch::Tensor plain = Forward(in);
  for (const PositionPairId& pair : LegalPairs()) {
    auto values = Cell(pair, "sigmoid", "4");
    values["method.init"] = "zero";
    const auto method = Attach({{CellSettings(values), 3}});
    EXPECT_EQ(LargestDifference(plain, Forward(in)), 0);
  }
}

// x at FFN_in plus s·Linear(act(Linear(CA_out))): the paper's code with torch.nn modules, values drawn by torch itself.
TEST_F(InOutAdapterTest, TokenFormAndInitialValuesAreTorchNnsUnderTheSameSeed) {
  const auto method = Attach({{CellSettings({{"method.scale", "0.5"}, {"method.activation", "relu"}}), 99}});
  torch::manual_seed(99);
  struct Reference {
    torch::nn::Linear down, up;
  };
  std::vector<Reference> reference;
  for (int i = 0; i < 2; ++i) {
    torch::nn::Linear down(64, 4), up(4, 64);
    reference.push_back({down, up});
  }
  const auto arrays = method->Export(0);
  ASSERT_EQ(arrays.size(), 8u);
  const std::string block = "transformer.transformer_blocks.1.adapter.";
  EXPECT_TRUE(torch::equal(arrays.at(block + "down.weight"), reference[1].down->weight));
  EXPECT_TRUE(torch::equal(arrays.at(block + "down.bias"), reference[1].down->bias));
  EXPECT_TRUE(torch::equal(arrays.at(block + "up.weight"), reference[1].up->weight));
  EXPECT_TRUE(torch::equal(arrays.at(block + "up.bias"), reference[1].up->bias));

  // The pass alone, on tensors of our own.
  const std::vector<nn::TappableBlock> blocks = nn::TappableBlocksIn(*network_);
  const auto found = std::find_if(blocks.begin(), blocks.end(), [](const nn::TappableBlock& b) {
    return b.name == "transformer.transformer_blocks.1";
  });
  ASSERT_NE(found, blocks.end());
  const auto pass = found->slot->entries().front().part->Begin();
  const torch::Tensor ca_out = torch::randn({3, 16, 64}), stream = torch::randn({3, 16, 64});
  EXPECT_TRUE(torch::equal(pass->At(nn::Tap::kCaOut, ca_out), ca_out)) << "reading changes nothing";
  const torch::Tensor expected = stream + 0.5 * reference[1].up(torch::relu(reference[1].down(ca_out)));
  EXPECT_LT(LargestDifference(pass->At(nn::Tap::kFfnIn, stream), expected), kFloatTolerance);
}

TEST_F(InOutAdapterTest, PictureFormIsGroupNormSiluConvolutionActivationConvolution) {
  const auto method = Attach(
      {{CellSettings({{"method.input", "Res_in"}, {"method.output", "Res_out"}, {"method.activation", "silu"}}), 7}});
  torch::manual_seed(7);
  torch::nn::Conv2d down(torch::nn::Conv2dOptions(32, 4, 3).padding(1));
  torch::nn::Conv2d up(torch::nn::Conv2dOptions(4, 64, 3).padding(1));
  const std::vector<nn::TappableBlock> blocks = nn::TappableBlocksIn(*network_);
  const auto pass = blocks.front().slot->entries().front().part->Begin();
  const torch::Tensor in = torch::randn({2, 32, 4, 4}), out = torch::randn({2, 64, 4, 4});
  pass->At(nn::Tap::kResIn, in);
  const torch::Tensor expected = out + up(torch::silu(down(torch::silu(torch::group_norm(in, 32)))));
  EXPECT_LT(LargestDifference(pass->At(nn::Tap::kResOut, out), expected), kFloatTolerance);
}

// Three cells, two of which share a position: values, gradients and ten AdamW steps as in three solo runs.
TEST_F(InOutAdapterTest, APackOfThreeEqualsThreeSoloRuns) {
  using enum Position;
  for (const auto& cells : {std::vector<PositionPairId>{{kCaOut, kFfnIn}, {kCaOut, kFfnIn}, {kSaIn, kTransOut}},
                            std::vector<PositionPairId>{{kResIn, kResOut}, {kResOut, kResOut}, {kResOut, kResOut}},
                            std::vector<PositionPairId>{{kCaC, kCaC}, {kResIn, kResIn}, {kCaC, kCaC}}}) {
    std::vector<SlotOptions> slots;
    const char* scales[] = {"0.5", "4", "1"};
    for (size_t k = 0; k < 3; ++k) slots.push_back({CellSettings(Cell(cells[k], "relu", scales[k])), 40 + k});
    std::vector<SmallInputs> inputs;
    for (uint64_t k = 0; k < 3; ++k) inputs.push_back(MakeInputs(2, 60 + k));

    const auto train = [&](Method& method, const SmallInputs& in, int64_t slots_in_pack) {
      std::vector<torch::Tensor> parameters;
      for (const NamedParameter& p : method.parameters()) parameters.push_back(p.value);
      torch::optim::AdamW optimizer(parameters, torch::optim::AdamWOptions(1e-2).weight_decay(0.01));
      for (int step = 0; step < 10; ++step) {
        optimizer.zero_grad();
        // Each trial's own mean; their sum, so that no trial's gradient is scaled by the pack's size.
        const torch::Tensor y = Forward(in);
        y.reshape({slots_in_pack, -1}).square().mean(1).sum().backward();
        optimizer.step();
      }
    };

    std::vector<std::map<std::string, torch::Tensor>> solo;
    for (size_t k = 0; k < 3; ++k) {
      const auto method = Attach({slots[k]});
      train(*method, inputs[k], 1);
      solo.push_back(method->Export(0));
    }
    const auto pack = Attach(slots);
    for (size_t k = 0; k < 3; ++k) {
      const auto initial = pack->Export(static_cast<int64_t>(k));
      ASSERT_EQ(initial.size(), solo[k].size());
    }
    const SmallInputs all{torch::cat({inputs[0].x, inputs[1].x, inputs[2].x}),
                          torch::cat({inputs[0].time, inputs[1].time, inputs[2].time}),
                          torch::cat({inputs[0].context, inputs[1].context, inputs[2].context})};
    train(*pack, all, 3);
    for (size_t k = 0; k < 3; ++k) {
      for (const auto& [name, value] : pack->Export(static_cast<int64_t>(k))) {
        // Adam divides by the gradient's own size: where that is near 0 a rounding error moves a weight by up to the
        // rate (1e-2) per step, so single weights may differ by more than the rounding; nearly all must not.
        const auto difference = (value - solo[k].at(name)).abs();
        EXPECT_LT(difference.mean().item<double>(), 1e-5) << "slot " << k << " " << name;
      }
    }
  }
}

TEST_F(InOutAdapterTest, ASlotsInitialValuesAndFirstGradientsDoNotDependOnThePack) {
  using enum Position;
  const SlotOptions a{CellSettings(Cell({kCaOut, kFfnIn}, "relu", "1")), 1};
  const SlotOptions b{CellSettings(Cell({kCaOut, kFfnIn}, "relu", "2")), 2};
  const SmallInputs in_a = MakeInputs(2, 8), in_b = MakeInputs(2, 9);
  std::map<std::string, torch::Tensor> solo_values, solo_gradients;
  {
    const auto method = Attach({b});
    solo_values = method->Export(0);
    Forward(in_b).square().mean().backward();
    for (const auto& p : method->parameters()) solo_gradients[p.name] = p.value.grad()[0].clone();
  }
  const auto pack = Attach({a, b});
  for (const auto& [name, value] : pack->Export(1)) EXPECT_TRUE(torch::equal(value, solo_values.at(name))) << name;
  const auto y = Forward(
      {torch::cat({in_a.x, in_b.x}), torch::cat({in_a.time, in_b.time}), torch::cat({in_a.context, in_b.context})});
  y.reshape({2, -1}).square().mean(1).sum().backward();
  for (const auto& p : pack->parameters()) {
    EXPECT_LT(LargestDifference(p.value.grad()[1], solo_gradients.at(p.name)), kFloatTolerance) << p.name;
  }
}

TEST_F(InOutAdapterTest, ImportRestoresWhatExportGaveAndNamesWhatDoesNotFit) {
  const SmallInputs in = MakeInputs(2, 5);
  std::map<std::string, torch::Tensor> arrays;
  torch::Tensor expected;
  {
    const auto method = Attach({{CellSettings({}), 3}});
    arrays = method->Export(0);
    expected = Forward(in);
  }
  const auto method = Attach({{CellSettings({}), 4}});
  EXPECT_GT(LargestDifference(Forward(in), expected), 1e-4);
  method->Import(0, arrays);
  EXPECT_EQ(LargestDifference(Forward(in), expected), 0);

  arrays.erase("transformer.transformer_blocks.0.adapter.up.bias");
  try {
    method->Import(0, arrays);
    FAIL() << "an array is missing";
  } catch (const c10::Error& error) {
    EXPECT_THAT(error.what_without_backtrace(), ::testing::HasSubstr("transformer_blocks.0.adapter.up.bias"));
  }
}

TEST_F(InOutAdapterTest, ParameterCountsFollowTheFormulaAndBudgetsGiveTheNearestWidth) {
  const auto blocks = nn::TappableBlocksIn(*network_);
  using enum Position;
  for (const PositionPairId& pair : LegalPairs()) {
    const AdapterSize size = SizeOfAdapter(blocks, pair);
    for (const int64_t width : {1, 5}) {
      auto values = Cell(pair, "relu", "1");
      values["method.width"] = std::to_string(width);
      EXPECT_EQ(Attach({{CellSettings(values), 1}})->ParametersOf(0), size.At(width));
    }
    EXPECT_EQ(size.WidthFor(size.At(7)), 7);
    EXPECT_EQ(size.WidthFor(size.At(7) + size.per_width / 2 + 1), 8);
    EXPECT_EQ(size.WidthFor(1), 1);
  }
}

// Stable Diffusion v1: 16 transformer blocks, 5 of width 320, 5 of 640, 6 of 1280; widths 60 and 256 are the paper's
// "1.5 M, 0.17 %" and "6.4 M" (arXiv 2303.18181 §4).
TEST(AdapterSizeTest, StableDiffusionsSizesAreThePapers) {
  std::vector<nn::TappableBlock> blocks;
  for (const auto& [count, width] : {std::pair{5, 320}, {5, 640}, {6, 1280}}) {
    for (int i = 0; i < count; ++i) blocks.push_back({"", nn::BlockKind::kTransformer, width, width, 768, 32, nullptr});
  }
  const AdapterSize size = SizeOfAdapter(blocks, {Position::kCaOut, Position::kFfnIn});
  EXPECT_EQ(size.At(60), 1511040);
  EXPECT_EQ(size.At(256), 6406336);
  EXPECT_EQ(SizeOfAdapter(blocks, {Position::kCaC, Position::kCaC}).At(60), 1487808);
  EXPECT_EQ(size.WidthFor(1500000), 60);
}

}  // namespace
}  // namespace loupe::worker::methods
