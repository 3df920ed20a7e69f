#include "worker/train/adamw.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

namespace loupe::worker {
namespace {

NamedParameter MakeParameter(const std::string& name, at::IntArrayRef shape) {
  return {name, torch::randn(shape).set_requires_grad(true)};
}

// float32 rounding of one step is about 1e-7 of a value of order 1; ten steps with values near 0 in the denominator.
constexpr double kTolerance = 1e-6;

TEST(AdamWTest, TakesTorchOptimAdamWsSteps) {
  torch::manual_seed(1);
  std::vector<NamedParameter> ours = {MakeParameter("a", {1, 3, 5}), MakeParameter("b", {1, 4})};
  std::vector<torch::Tensor> theirs;
  for (const auto& p : ours) theirs.push_back(p.value.detach().clone().set_requires_grad(true));
  AdamW optimizer(ours, {.learning_rate = 0.02, .beta1 = 0.8, .beta2 = 0.97, .epsilon = 1e-7, .weight_decay = 0.1});
  torch::optim::AdamW reference(theirs,
                                torch::optim::AdamWOptions(0.02).betas({0.8, 0.97}).eps(1e-7).weight_decay(0.1));
  for (int step = 0; step < 10; ++step) {
    for (size_t i = 0; i < ours.size(); ++i) {
      const auto gradient = torch::randn_like(theirs[i]);
      ours[i].value.mutable_grad() = gradient.clone();
      theirs[i].mutable_grad() = gradient;
    }
    optimizer.Step();
    reference.step();
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_LT((ours[i].value - theirs[i]).abs().max().item<double>(), kTolerance) << "step " << step;
      EXPECT_FALSE(ours[i].value.grad().defined()) << "gradients are cleared";
    }
  }
}

TEST(AdamWTest, ClipsEachSlotByItsOwnNorm) {
  std::vector<NamedParameter> parameters = {MakeParameter("a", {2, 3}), MakeParameter("b", {2, 1})};
  AdamW optimizer(parameters, {.learning_rate = 0, .weight_decay = 0, .clip_norm = 1});
  parameters[0].value.mutable_grad() = torch::tensor({{3., 0., 0.}, {0.1, 0., 0.}}, torch::kFloat32);
  parameters[1].value.mutable_grad() = torch::tensor({{4.}, {0.}}, torch::kFloat32);
  const auto norms = optimizer.Step();
  EXPECT_NEAR(norms[0].item<double>(), 5, 1e-6);
  EXPECT_NEAR(norms[1].item<double>(), 0.1, 1e-7);
  const auto moments = optimizer.Export();
  // exp_avg = 0.1 · clipped gradient after one step.
  EXPECT_NEAR(moments.at("a.exp_avg")[0][0].item<double>(), 0.1 * 3 / 5, 1e-6);
  EXPECT_NEAR(moments.at("a.exp_avg")[1][0].item<double>(), 0.1 * 0.1, 1e-7) << "a small gradient is not scaled up";
}

TEST(AdamWTest, GoesOnFromItsExportedStateBitForBit) {
  torch::manual_seed(2);
  std::vector<NamedParameter> first = {MakeParameter("a", {1, 3})};
  std::vector<NamedParameter> second = {{"a", first[0].value.detach().clone().set_requires_grad(true)}};
  AdamW optimizer(first, {});
  const auto step = [](std::vector<NamedParameter>& parameters, AdamW& adamw, double gradient) {
    parameters[0].value.mutable_grad() = torch::full({1, 3}, gradient);
    adamw.Step();
  };
  step(first, optimizer, 1);
  AdamW resumed(second, {});
  resumed.Import(optimizer.Export(), optimizer.steps());
  second[0].value.data().copy_(first[0].value.data());
  step(first, optimizer, -2);
  step(second, resumed, -2);
  EXPECT_TRUE(torch::equal(first[0].value, second[0].value));
}

}  // namespace
}  // namespace loupe::worker
