// Passes on the same rows share what the base makes of them before the first change: every method, every pair of
// positions, against runs alone, byte for byte.
#include "worker/nn/shared_prefix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include "common/atomic_file.h"
#include "tests/worker/methods/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tuning_sites.h"
#include "worker/train/trainer.h"
#include "worker/train/validation.h"

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
    nn::PassesWithTheSameRows prefix;
    for (const torch::Tensor& input : {x, timesteps, context}) prefix.Begin(input);
    torch::Tensor alone, first, second;
    const auto method = methods::MakeMethod(nn::SitesIn(*base_.unet), {{settings, 1}}, torch::kCPU);
    alone = base_.denoiser->Forward(x, timesteps, context);
    const nn::SharedPrefixScope scope(&prefix);
    first = base_.denoiser->Forward(x, timesteps, context);
    second = base_.denoiser->Forward(x, timesteps, context);
    EXPECT_TRUE(torch::equal(first, alone) && torch::equal(second, alone));
    return prefix.shared();
  };
  const int64_t early = taken(methods::CellSettings({{"method.input", "SA_in"}, {"method.output", "SA_in"}})),
                late = taken(methods::CellSettings({{"method.input", "FFN_out"}, {"method.output", "Trans_out"}}));
  EXPECT_GT(early, 0);
  EXPECT_GT(late, early);
  // Keys and values of the text, once for all, but where a method has its hand in them.
  EXPECT_GT(early, taken(methods::MethodSettings({{"method.kind", "lora"}})));
}

// Says how many parts of its passes were not computed for all rows.
class WatchedDenoiser : public base::Denoiser {
 public:
  explicit WatchedDenoiser(std::shared_ptr<base::Denoiser> inner) : inner_(std::move(inner)) {}
  torch::Tensor Forward(const torch::Tensor& x_t, const torch::Tensor& timesteps, const base::Condition& condition,
                        nn::ContextCache* cache) override {
    torch::Tensor output = inner_->Forward(x_t, timesteps, condition, cache);
    shared.push_back(nn::SharedPrefixScope::Now() == nullptr ? 0 : nn::SharedPrefixScope::Now()->shared());
    return output;
  }
  std::vector<int64_t> Shape() const override { return inner_->Shape(); }
  bool PredictsVariance() const override { return inner_->PredictsVariance(); }
  torch::nn::Module& network() override { return inner_->network(); }
  std::string name() const override { return inner_->name(); }

  std::vector<int64_t> shared;  // by call

 private:
  const std::shared_ptr<base::Denoiser> inner_;
};

// A shared pass, and the validation of its slots, compute once what they have in common.
TEST_F(SharedPrefixTest, ASharedPassComputesItOnce) {
  const auto watched = std::make_shared<WatchedDenoiser>(base_.denoiser);
  base_.denoiser = watched;
  const std::vector<settings::Settings> trials = {EveryPair()[0], EveryPair()[1]};
  const auto make = [&](const std::vector<size_t>& slots) {
    std::vector<methods::SlotOptions> options;
    options.reserve(slots.size());
    for (const size_t slot : slots) options.push_back({trials[slot], 7 + slot});
    return methods::MakeMethod(nn::SitesIn(*base_.unet), options, torch::kCPU, methods::SlotOperators::kOwn);
  };
  for (const bool recompute : {false, true}) {
    Trainer trainer(base_, make, {});
    for (size_t i = 0; i < trials.size(); ++i) trainer.Join(Slot({.recompute = recompute}));
    const Trainer::PassGroup pass{.slots = {0, 1}, .width = 3};
    trainer.Regroup({pass});
    watched->shared.clear();
    trainer.StepWith(0);
    ASSERT_EQ(watched->shared.size(), 1u);
    EXPECT_EQ(watched->shared.front() > 5, !recompute) << watched->shared.front();
    runtime::RandomStream stream(21);
    const ValidationRows rows{stream.Normal({20, 4, 8, 8}),
                              stream.Normal({20, 5, 16}),
                              stream.Normal({20, 4, 8, 8}),
                              stream.Integers(1000, {20}),
                              {}};
    std::vector<double> together;
    watched->shared.clear();
    trainer.WithSlotsTogether(pass, [&](methods::Method&) {
      together = ValidationLosses(base_, {&rows, &rows, &rows});
    });
    EXPECT_THAT(watched->shared, ::testing::ElementsAre(::testing::Gt(5), ::testing::Gt(5))) << "parts of 16 rows";
    for (size_t i = 0; i < trials.size(); ++i) {
      trainer.WithSlotAlone(
          i, [&](methods::Method&) { EXPECT_NEAR(ValidationLoss(base_, rows), together[i], 1e-6 * together[i]); });
    }
  }
}

// Blocks of rows of one pass, the first and third of which are the same: each comes to what it is alone, and what no
// method touches is computed for two of the three.
TEST_F(SharedPrefixTest, RowsThatRepeatArePutWhereTheyAre) {
  runtime::RandomStream stream(3);
  const auto context = stream.Normal({2, 5, 16});
  const auto x = stream.Normal({2, 4, 8, 8}), other = stream.Normal({2, 4, 8, 8});
  const torch::Tensor steps = stream.Integers(1000, {2}), one_step = stream.Integers(1000, {1});
  const auto blocks = nn::RowsThatRepeat::BlocksOf({{x}, {other}, {x.clone()}});
  EXPECT_THAT(blocks.calls, ::testing::ElementsAre(std::vector<int64_t>{0}, std::vector<int64_t>{1}));
  EXPECT_THAT(blocks.same_as, ::testing::ElementsAre(0, 1, 0));
  const nn::RowsThatRepeat::Blocks in_one_call{.calls = {{1, 2}}, .same_as = {2, 1, 2}};
  const auto method = methods::MakeMethod(
      nn::SitesIn(*base_.unet), {{methods::CellSettings({{"method.input", "CA_in"}, {"method.output", "FFN_in"}}), 1}},
      torch::kCPU);
  for (const torch::Tensor& timesteps : {steps, one_step}) {
    const torch::Tensor all_steps = timesteps.size(0) == 1 ? timesteps : timesteps.repeat(3);
    const auto rows = torch::cat({x, other, x}), contexts = context.repeat({3, 1, 1});
    const auto alone = base_.denoiser->Forward(x, timesteps, context);
    const auto other_alone = base_.denoiser->Forward(other, timesteps, context);
    for (const auto& [which, given] : {std::pair{"a call each", blocks}, std::pair{"one call", in_one_call}}) {
      SCOPED_TRACE(which);
      nn::RowsThatRepeat prefix(given);
      for (const torch::Tensor& input : {rows, all_steps, contexts}) prefix.Begin(input);
      const nn::SharedPrefixScope scope(&prefix);
      const auto output = base_.denoiser->Forward(rows, all_steps, contexts).split(2);
      EXPECT_GT(prefix.shared(), 5);
      EXPECT_LE((output[0] - alone).abs().max().item<double>(), 1e-5);
      EXPECT_LE((output[1] - other_alone).abs().max().item<double>(), 1e-5);
      EXPECT_TRUE(torch::equal(output[0], output[2]));
      EXPECT_GE((output[0] - output[1]).abs().max().item<double>(), 1e-2);
    }
  }
}

}  // namespace
}  // namespace loupe::worker::train
