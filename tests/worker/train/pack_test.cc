// A pack of eight different trials against eight runs alone: one diverges, one is cancelled, one ends early.
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <cmath>
#include <filesystem>

#include "common/atomic_file.h"
#include "tests/worker/methods/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tuning_sites.h"
#include "worker/train/trainer.h"

namespace loupe::worker::train {
namespace {

constexpr int64_t kSteps = 6;
constexpr size_t kDiverges = 3;  // of EightTrials

struct Trial {
  std::map<std::string, std::string> cell;
  TrainOptions options;
  int64_t steps = kSteps;  // its own end
  bool cancelled = false;  // after half of the steps
};

std::vector<Trial> EightTrials() {
  const auto adapter = [](const char* input, const char* output, const char* width) {
    return std::map<std::string, std::string>{
        {"method.input", input}, {"method.output", output}, {"method.width", width}};
  };
  const auto lora = [](const char* rank, const char* dropout) {
    return std::map<std::string, std::string>{
        {"method.kind", "lora"}, {"method.rank", rank}, {"method.dropout", dropout}};
  };
  auto scaled = adapter("CA_out", "FFN_in", "4"), silu = adapter("CA_c", "CA_c", "4");
  auto diverges = adapter("CA_out", "FFN_in", "6");
  scaled["method.scale"] = "3";
  silu["method.activation"] = "silu";
  // From a second layer of zeros, the first layer's first gradient is 0, and AdamW without an epsilon divides 0 by 0.
  diverges["method.init"] = "zero";
  std::vector<Trial> trials = {
      {adapter("CA_out", "FFN_in", "4"), {.optimizer = {.learning_rate = 1e-2}}},
      {scaled, {.optimizer = {.learning_rate = 3e-3, .beta1 = 0.8, .weight_decay = 0.1}, .ema_decay = 0.9}},
      {adapter("SA_in", "Trans_out", "6"),
       {.optimizer = {.clip_norm = 0.01}, .schedule = {.warmup_steps = 2, .cosine = true, .total_steps = kSteps}}},
      {diverges, {.optimizer = {.learning_rate = 1e-2, .epsilon = 0}}},
      {adapter("Res_in", "Res_out", "2"),
       {.optimizer = {.learning_rate = 1e-2}, .min_snr_gamma = 5, .noise_offset = 0.1}},
      {lora("2", "0.2"), {.optimizer = {.learning_rate = 1e-2}, .loss_scale = 0x1p+10}, kSteps, /*cancelled=*/true},
      // Beyond float32 at first: skips steps that the others take.
      {lora("3", "0"), {.optimizer = {.learning_rate = 1e-2}, .loss_scale = 0x1p+130}},
      {silu, {.optimizer = {.learning_rate = 1e-2}, .ema_decay = 0.5}, /*steps=*/4},
  };
  for (Trial& trial : trials) trial.options.accumulation = 2;
  return trials;
}

// What a run leaves behind: losses by step, the values at its end, and its checkpoint.
struct TrialRun {
  std::vector<double> losses;
  std::map<std::string, torch::Tensor> values;
  std::string checkpoint;
  double validation = 0;  // loss with the average
};

class PackTest : public ::testing::Test {
 protected:
  PackTest() : base_(MakeSmallBase()), trials_(EightTrials()), data_(MakeSmallData(/*prior=*/true)) {
    at::set_num_threads(1);
    path_ = ::testing::TempDir() + "pack_test.safetensors";
    runtime::RandomStream stream(21);
    validation_ = {stream.Normal({4, 4, 8, 8}),
                   stream.Normal({4, 5, 16}),
                   stream.Normal({4, 4, 8, 8}),
                   stream.Integers(1000, {4}),
                   {}};
  }

  TrainSlot SlotOf(size_t i, int64_t group) const {
    const uint64_t seed = 100 * (i + 1);
    return {tasks::MakeDreamBoothSource(data_, 2, {seed, seed + 1, seed + 2}), runtime::RandomStream(seed + 3),
            runtime::RandomStream(seed + 4), trials_[i].options, group};
  }
  std::unique_ptr<methods::Method> MethodOf(const std::vector<size_t>& trials) {
    std::vector<methods::SlotOptions> slots;
    for (const size_t i : trials) slots.push_back({methods::MethodSettings(trials_[i].cell), 7 * (i + 1)});
    return methods::MakeMethod(nn::SitesIn(*base_.unet), slots, torch::kCPU);
  }
  Trainer TrainerOf(const std::vector<size_t>& trials, bool one_pass) {
    std::vector<TrainSlot> slots;
    for (size_t i = 0; i < trials.size(); ++i)
      slots.push_back(SlotOf(trials[i], one_pass ? 0 : static_cast<int64_t>(i)));
    return Trainer(
        base_,
        [this, trials](const std::vector<size_t>& members) {
          std::vector<size_t> chosen;
          for (const size_t member : members) chosen.push_back(trials[member]);
          return MethodOf(chosen);
        },
        std::move(slots));
  }

  // Drives a pack to its end as a worker would: who fails, is cancelled or has ended leaves.
  std::vector<TrialRun> RunPack(const std::vector<size_t>& trials, bool one_pass) {
    Trainer trainer = TrainerOf(trials, one_pass);
    std::vector<TrialRun> runs(trials.size());
    std::vector<bool> in(trials.size(), true);
    for (size_t left = trials.size(); left > 0;) {
      const std::vector<SlotStep> steps = trainer.Step();
      for (size_t i = 0; i < trials.size(); ++i) {
        const Trial& trial = trials_[trials[i]];
        EXPECT_EQ(in[i], steps[i].kind != SlotStep::Kind::kLeft);
        if (!in[i] || steps[i].kind == SlotStep::Kind::kSkipped) continue;
        runs[i].losses.push_back(steps[i].loss);
        const bool failed = steps[i].kind == SlotStep::Kind::kFailed;
        const bool cancelled = trial.cancelled && trainer.steps(i) == kSteps / 2;
        if (!failed && !cancelled && trainer.steps(i) < trial.steps) continue;
        trainer.SaveCheckpoint(path_, "run", i);
        runs[i].checkpoint = *ReadFile(path_);
        trainer.SwapAverage(i);
        trainer.WithSlotAlone(i, [&](methods::Method& method) {
          runs[i].values = method.Export(0);
          runs[i].validation = ValidationLoss(base_, validation_);
        });
        trainer.Leave(i);
        in[i] = false;
        --left;
      }
    }
    return runs;
  }

  void CompareWithSolo(bool one_pass) {
    // In a pass of 8·B rows matrix products and convolutions may add up in another order than in one of B: 1.6e-7 of a
    // loss and, after AdamW's steps, 4.1e-6 of a value at the furthest (oneDNN and MKL, float32); other processors'
    // kernels may differ more.
    const double loss_tolerance = one_pass ? 1e-5 : 0, value_tolerance = one_pass ? 1e-4 : 0;
    const std::vector<TrialRun> pack = RunPack({0, 1, 2, 3, 4, 5, 6, 7}, one_pass);
    for (size_t i = 0; i < trials_.size(); ++i) {
      SCOPED_TRACE(i);
      const TrialRun solo = RunPack({i}, one_pass).front();
      ASSERT_EQ(pack[i].losses.size(), solo.losses.size());
      for (size_t step = 0; step < solo.losses.size(); ++step) {
        if (std::isnan(solo.losses[step])) {
          EXPECT_TRUE(std::isnan(pack[i].losses[step]));
        } else {
          EXPECT_LE(std::abs(pack[i].losses[step] / solo.losses[step] - 1), loss_tolerance) << "step " << step;
        }
      }
      ASSERT_EQ(pack[i].values.size(), solo.values.size());
      for (const auto& [name, value] : solo.values) {
        if (i == kDiverges) continue;
        EXPECT_LE((pack[i].values.at(name) - value).abs().mean().item<double>(), value_tolerance) << name;
      }
      if (i != kDiverges) {
        EXPECT_LE(std::abs(pack[i].validation / solo.validation - 1), loss_tolerance);
      }
      if (!one_pass) {
        EXPECT_EQ(pack[i].checkpoint, solo.checkpoint) << "byte for byte";
      }
    }
    EXPECT_TRUE(std::isnan(pack[kDiverges].losses.back()));
    EXPECT_EQ(pack[kDiverges].losses.size(), 2u);
    EXPECT_EQ(pack[5].losses.size(), 3u) << "cancelled";
    EXPECT_EQ(pack[6].losses.size(), 6u) << "skipped steps come on top";
    EXPECT_EQ(pack[7].losses.size(), 4u) << "ended early";
  }

  base::BaseModel base_;
  const std::vector<Trial> trials_;
  const std::shared_ptr<const tasks::DreamBoothData> data_;
  std::string path_;
  ValidationRows validation_;
};

TEST_F(PackTest, EightTrialsTrainAsTheyWouldAlone) { CompareWithSolo(/*one_pass=*/false); }

TEST_F(PackTest, ASharedPassDiffersByRoundingAlone) { CompareWithSolo(/*one_pass=*/true); }

// The first half in a pack and the second alone, and the other way round.
TEST_F(PackTest, ATrialGoesOnAloneFromAPacksCheckpoint) {
  const std::vector<size_t> trials = {2, 0, 1};
  const std::string undisturbed = RunPack({1}, /*one_pass=*/false).front().checkpoint;
  for (const bool begins_packed : {true, false}) {
    {
      const size_t slot = begins_packed ? 2 : 0;
      Trainer first = TrainerOf(begins_packed ? trials : std::vector<size_t>{1}, /*one_pass=*/false);
      for (int step = 0; step < 3; ++step) first.Step();
      first.SaveCheckpoint(path_, "run", slot);
    }
    const size_t slot = begins_packed ? 0 : 2;
    Trainer second = TrainerOf(begins_packed ? std::vector<size_t>{1} : trials, /*one_pass=*/false);
    ASSERT_TRUE(second.LoadCheckpoint(path_, "run", slot));
    EXPECT_EQ(second.steps(slot), 3);
    for (int step = 3; step < kSteps; ++step) second.Step();
    second.SaveCheckpoint(path_, "run", slot);
    EXPECT_EQ(*ReadFile(path_), undisturbed) << begins_packed;
  }
}

TEST_F(PackTest, WhatASharedPassNeedsIsSaid) {
  const TrainSlot first = SlotOf(0, 0);
  TrainSlot other = SlotOf(1, 0);
  EXPECT_EQ(WhyNotOneForward(first, other), "");
  other.options.accumulation = 4;
  EXPECT_EQ(WhyNotOneForward(first, other), "they accumulate 2 and 4 batches to a step");
  other = SlotOf(1, 0);
  other.source = tasks::MakeDreamBoothSource(data_, 3, {1, 2, 3});
  EXPECT_EQ(WhyNotOneForward(first, other), "their batches have 4 and 6 rows");
  std::vector<TrainSlot> slots;
  slots.push_back(SlotOf(0, 0));
  slots.push_back(std::move(other));
  const auto make = [this](const std::vector<size_t>& members) { return MethodOf(members); };
  EXPECT_THROW(Trainer(base_, make, std::move(slots)), c10::Error);
}

}  // namespace
}  // namespace loupe::worker::train
