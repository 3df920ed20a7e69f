#include "worker/train/adamw.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include "worker/nn/kernel_layers.h"

namespace loupe::worker::train {
namespace {

methods::NamedParameter MakeParameter(const std::string& name, at::IntArrayRef shape) {
  return {name, torch::randn(shape).set_requires_grad(true)};
}

// float32 rounding of one step is about 1e-7 of a value of order 1; ten steps with values near 0 in the denominator.
constexpr double kTolerance = 1e-6;

TEST(AdamWTest, TakesTorchOptimAdamWsSteps) {
  torch::manual_seed(1);
  std::vector<methods::NamedParameter> ours = {MakeParameter("a", {1, 3, 5}), MakeParameter("b", {1, 4})};
  std::vector<torch::Tensor> theirs;
  theirs.reserve(ours.size());
  for (const auto& p : ours) theirs.push_back(p.value.detach().clone().set_requires_grad(true));
  AdamW optimizer(ParametersOfSlot(ours, 0),
                  {.learning_rate = 0.02, .beta1 = 0.8, .beta2 = 0.97, .epsilon = 1e-7, .weight_decay = 0.1});
  torch::optim::AdamW reference(theirs,
                                torch::optim::AdamWOptions(0.02).betas({0.8, 0.97}).eps(1e-7).weight_decay(0.1));
  for (int step = 0; step < 10; ++step) {
    for (size_t i = 0; i < ours.size(); ++i) {
      const auto gradient = torch::randn_like(theirs[i]);
      ours[i].value.mutable_grad() = gradient.clone();
      theirs[i].mutable_grad() = gradient;
    }
    optimizer.Step(1);
    reference.step();
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_LT((ours[i].value - theirs[i]).abs().max().item<double>(), kTolerance) << "step " << step;
    }
  }
}

TEST(AdamWTest, ClipsEachSlotByItsOwnNorm) {
  std::vector<methods::NamedParameter> parameters = {MakeParameter("a", {2, 3}), MakeParameter("b", {2, 1})};
  parameters[0].value.mutable_grad() = torch::tensor({{3., 0., 0.}, {0.1, 0., 0.}}, torch::kFloat32);
  parameters[1].value.mutable_grad() = torch::tensor({{4.}, {0.}}, torch::kFloat32);
  const AdamWOptions options{.learning_rate = 0, .weight_decay = 0, .clip_norm = 1};
  AdamW first(ParametersOfSlot(parameters, 0), options), second(ParametersOfSlot(parameters, 1), options);
  EXPECT_NEAR(first.Step(1).item<double>(), 5, 1e-6);
  EXPECT_NEAR(second.Step(1).item<double>(), 0.1, 1e-7);
  // exp_avg = 0.1 · clipped gradient after one step.
  EXPECT_NEAR(first.Export().at("a.exp_avg")[0].item<double>(), 0.1 * 3 / 5, 1e-6);
  EXPECT_NEAR(second.Export().at("a.exp_avg")[0].item<double>(), 0.1 * 0.1, 1e-7) << "a small one is not scaled up";
}

// Slots of a pack hold different parameters, each with rates of its own: the bits are those of a run alone, also for
// the second slot, whose rows do not begin where a vector register would.
TEST(AdamWTest, AStepInAPackHasTheBitsOfOneAlone) {
  torch::manual_seed(3);
  std::vector<methods::NamedParameter> pack = {MakeParameter("a", {3, 7, 5}), MakeParameter("b", {1, 13})};
  pack[1].first_slot = 1;
  const std::vector<AdamWOptions> options = {{.learning_rate = 0.1}, {.beta1 = 0.5, .clip_norm = 2}, {.epsilon = 1}};
  std::vector<AdamW> packed;
  std::vector<std::vector<methods::NamedParameter>> alone(3);
  std::vector<AdamW> solo;
  for (int64_t slot = 0; slot < 3; ++slot) {
    for (const methods::NamedParameter& parameter : pack) {
      if (!parameter.Holds(slot)) continue;
      const auto row = parameter.value.detach().narrow(0, slot - parameter.first_slot, 1);
      alone[static_cast<size_t>(slot)].push_back({parameter.name, row.clone().set_requires_grad(true)});
    }
    packed.emplace_back(ParametersOfSlot(pack, slot), options[static_cast<size_t>(slot)]);
    solo.emplace_back(ParametersOfSlot(alone[static_cast<size_t>(slot)], 0), options[static_cast<size_t>(slot)]);
  }
  for (int step = 0; step < 3; ++step) {
    for (methods::NamedParameter& parameter : pack) parameter.value.mutable_grad() = torch::randn_like(parameter.value);
    for (size_t slot = 0; slot < 3; ++slot) {
      for (methods::NamedParameter& parameter : alone[slot]) {
        const methods::NamedParameter& whole = pack[parameter.name == "a" ? 0 : 1];
        parameter.value.mutable_grad() =
            whole.value.grad().narrow(0, static_cast<int64_t>(slot) - whole.first_slot, 1).clone();
      }
      EXPECT_EQ(packed[slot].Step(1).item<double>(), solo[slot].Step(1).item<double>());
      for (const auto& parameter : ParametersOfSlot(pack, static_cast<int64_t>(slot))) {
        const methods::NamedParameter& other = alone[slot][parameter.name() == "a" ? 0 : 1];
        EXPECT_TRUE(torch::equal(parameter.value(), other.value[0])) << slot << " " << parameter.name();
      }
    }
  }
}

TEST(AdamWTest, GoesOnFromItsExportedStateBitForBit) {
  torch::manual_seed(2);
  std::vector<methods::NamedParameter> first = {MakeParameter("a", {1, 3})};
  std::vector<methods::NamedParameter> second = {{"a", first[0].value.detach().clone().set_requires_grad(true)}};
  AdamW optimizer(ParametersOfSlot(first, 0), {});
  const auto step = [](std::vector<methods::NamedParameter>& parameters, AdamW& adamw, double gradient) {
    parameters[0].value.mutable_grad() = torch::full({1, 3}, gradient);
    adamw.Step(1);
  };
  step(first, optimizer, 1);
  AdamW resumed(ParametersOfSlot(second, 0), {});
  resumed.Import(optimizer.Export(), optimizer.steps());
  second[0].value.data().copy_(first[0].value.data());
  step(first, optimizer, -2);
  step(second, resumed, -2);
  EXPECT_TRUE(torch::equal(first[0].value, second[0].value));
}

// What is kept of a weight (nn/kernel_layers.h, nn/s4d.h) is of one version of it.
TEST(AdamWTest, AStepIsSeenByWhatIsKeptOfTheValues) {
  torch::manual_seed(4);
  const std::vector<methods::NamedParameter> parameters = {MakeParameter("a", {1, 32, 16, 3, 3})};
  const torch::Tensor& packed = parameters.front().value;
  const torch::Tensor x = torch::randn({1, 16, 8, 8}).contiguous(at::MemoryFormat::ChannelsLast);
  nn::ConvolutionKernel layer;
  AdamW optimizer(ParametersOfSlot(parameters, 0), {.learning_rate = 0.1});
  for (int step = 0; step < 3; ++step) {
    {
      const torch::NoGradGuard no_grad;
      torch::Tensor y;
      for (int pass = 0; pass < 3; ++pass) y = layer(x, packed[0], {});  // the second keeps, the third has it
      // Winograd's rounding is twice a sum's of 144 products of order 1; a step changes the sums by 1.
      EXPECT_LT((y - torch::conv2d(x, packed[0], {}, 1, 1)).abs().max().item<double>(), 1e-4) << "step " << step;
    }
    layer(x, packed[0], {}).square().sum().backward();
    const auto before = packed._version();
    optimizer.Step(1);
    EXPECT_GT(packed._version(), before);
    packed.mutable_grad().reset();
  }
}

}  // namespace
}  // namespace loupe::worker::train
