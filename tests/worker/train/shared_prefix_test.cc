// Passes on the same rows share what the base makes of them before the first change: every method, every pair of
// positions, against runs alone, byte for byte.
#include "worker/nn/shared_prefix.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include "common/atomic_file.h"
#include "tests/worker/methods/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tuning_sites.h"
#include "worker/train/trainer.h"

namespace loupe::worker::train {
namespace {

constexpr int64_t kPrefixSteps = 3;

// Every method with its defaults, but for those that train what this base does not have.
std::vector<settings::Settings> EveryMethod() {
  std::vector<settings::Settings> all;
  for (const methods::MethodTraits& method : methods::Methods()) {
    // Words of its own are the conditioner's, and a file is not trained.
    if (method.name == "textual-inversion" || !method.trains) continue;
    std::map<std::string, std::string> values = {{"method.kind", method.name}};
    if (method.name == "adapter") {
      values["method.input"] = "SA_out";
      values["method.output"] = "CA_in";
      values["method.width"] = "4";
    }
    all.push_back(methods::MethodSettings(values));
  }
  return all;
}

std::vector<settings::Settings> EveryPair() {
  std::vector<settings::Settings> all;
  for (const PositionPairId& pair : LegalPairs()) {
    all.push_back(methods::CellSettings({{"method.input", std::string(PositionName(pair.input))},
                                         {"method.output", std::string(PositionName(pair.output))}}));
  }
  return all;
}

class SharedPrefixTest : public ::testing::Test {
 protected:
  SharedPrefixTest() : base_(MakeSmallBase()), data_(MakeSmallData(/*prior=*/true)) {
    at::set_num_threads(1);
    path_ = ::testing::TempDir() + "shared_prefix_test.safetensors";
    for (torch::Tensor& weight : base_.unet->parameters()) weight.set_requires_grad(false);
  }

  // As all cells of a replicate: the same pictures, noise and timesteps.
  TrainSlot Slot(const TrainOptions& options) const {
    return {tasks::MakeDreamBoothSource(data_, 2, {1, 2, 3}), runtime::RandomStream(4), runtime::RandomStream(5),
            options};
  }
  // Checkpoints at the end, by trial.
  std::vector<std::string> Train(const std::vector<settings::Settings>& trials, bool together,
                                 const TrainOptions& options = {}) {
    std::vector<std::string> checkpoints;
    const auto make = [&](const std::vector<size_t>& slots) {
      return methods::MakeMethod(nn::SitesIn(*base_.unet), {{trials[slots.front()], 7 + slots.front()}}, torch::kCPU);
    };
    Trainer trainer(base_, make, {});
    for (size_t i = 0; i < trials.size(); ++i) trainer.Join(Slot(options));
    for (int64_t step = 0; step < kPrefixSteps; ++step) {
      std::optional<Trainer::Together> scope;
      if (together) scope.emplace(trainer);
      for (size_t i = 0; i < trials.size(); ++i) EXPECT_EQ(trainer.StepOf(i).kind, SlotStep::Kind::kStepped);
    }
    for (size_t i = 0; i < trials.size(); ++i) {
      trainer.SaveCheckpoint(path_, "run", i);
      checkpoints.push_back(*ReadFile(path_));
    }
    return checkpoints;
  }
  void CompareWithAlone(const std::vector<settings::Settings>& trials, const TrainOptions& options = {}) {
    const std::vector<std::string> together = Train(trials, true, options), alone = Train(trials, false, options);
    for (size_t i = 0; i < trials.size(); ++i) {
      EXPECT_EQ(together[i], alone[i]) << trials[i].Text("method.kind") << " " << i << ": byte for byte";
    }
  }

  base::BaseModel base_;
  const std::shared_ptr<const tasks::DreamBoothData> data_;
  std::string path_;
};

TEST_F(SharedPrefixTest, EveryMethodTrainsAsAlone) { CompareWithAlone(EveryMethod()); }

TEST_F(SharedPrefixTest, EveryPairTrainsAsAlone) { CompareWithAlone(EveryPair()); }

TEST_F(SharedPrefixTest, In16BitsItTrainsAsAlone) {
  // What the machine may have no instructions for takes long: not all of them each time.
  std::vector<settings::Settings> some = EveryMethod();
  some.resize(4);
  CompareWithAlone(some, {.precision = torch::kBFloat16});
}

// A trial whose steps are behind sees other rows: nothing is shared with it, and it comes to the same.
TEST_F(SharedPrefixTest, ALateTrialTrainsAsAlone) {
  const std::vector<settings::Settings> trials = {EveryPair()[0], EveryPair()[5]};
  const std::vector<std::string> alone = Train(trials, false);
  const auto make = [&](const std::vector<size_t>& slots) {
    return methods::MakeMethod(nn::SitesIn(*base_.unet), {{trials[slots.front()], 7 + slots.front()}}, torch::kCPU);
  };
  Trainer trainer(base_, make, {});
  trainer.Join(Slot({}));
  trainer.StepOf(0);
  trainer.Join(Slot({}));
  for (int64_t step = 1; step < kPrefixSteps; ++step) {
    const Trainer::Together together(trainer);
    for (size_t i = 0; i < trials.size(); ++i) trainer.StepOf(i);
  }
  trainer.SaveCheckpoint(path_, "run", 0);
  EXPECT_EQ(*ReadFile(path_), alone[0]);
  trainer.Release(0);
  trainer.StepOf(1);
  trainer.SaveCheckpoint(path_, "run", 1);
  EXPECT_EQ(*ReadFile(path_), alone[1]);
}

TEST_F(SharedPrefixTest, WhatNoMethodTouchesIsTaken) {
  runtime::RandomStream stream(3);
  const auto x = stream.Normal({2, 4, 8, 8}), context = stream.Normal({2, 5, 16});
  const auto timesteps = stream.Integers(1000, {2});
  // Passes with a method each: which of the parts a second one took from the first.
  const auto taken = [&](const settings::Settings& settings) {
    nn::SharedPrefix prefix;
    for (const torch::Tensor& input : {x, timesteps, context}) prefix.Begin(input);
    torch::Tensor alone, first, second;
    const auto method = methods::MakeMethod(nn::SitesIn(*base_.unet), {{settings, 1}}, torch::kCPU);
    alone = base_.denoiser->Forward(x, timesteps, context);
    const nn::SharedPrefixScope scope(&prefix);
    first = base_.denoiser->Forward(x, timesteps, context);
    second = base_.denoiser->Forward(x, timesteps, context);
    EXPECT_TRUE(torch::equal(first, alone) && torch::equal(second, alone));
    return prefix.taken();
  };
  const int64_t early = taken(methods::CellSettings({{"method.input", "SA_in"}, {"method.output", "SA_in"}})),
                late = taken(methods::CellSettings({{"method.input", "FFN_out"}, {"method.output", "Trans_out"}}));
  EXPECT_GT(early, 0);
  EXPECT_GT(late, early);
  // Keys and values of the text, once for all, but where a method has its hand in them.
  EXPECT_GT(early, taken(methods::MethodSettings({{"method.kind", "lora"}})));
}

}  // namespace
}  // namespace loupe::worker::train
