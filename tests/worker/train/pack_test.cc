// A pack of eight different trials against eight runs alone: one diverges, one is cancelled, one ends early.
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <cmath>
#include <filesystem>
#include <new>
#include <numeric>

#include "common/atomic_file.h"
#include "tests/worker/methods/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tuning_sites.h"
#include "worker/train/trainer.h"
#include "worker/train/validation.h"

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
      // Some of its first gradients are as small as their rounding, and AdamW's usual epsilon would make whole steps of
      // that.
      {adapter("Res_in", "Res_out", "8"),
       {.optimizer = {.learning_rate = 1e-2, .epsilon = 1e-5}, .min_snr_gamma = 5, .noise_offset = 0.1}},
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

std::vector<size_t> AllOf(size_t count) {
  std::vector<size_t> all(count);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

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

  TrainSlot SlotOf(size_t i) const {
    const uint64_t seed = 100 * (i + 1);
    return {tasks::MakeDreamBoothSource(data_, 2, {seed, seed + 1, seed + 2}), runtime::RandomStream(seed + 3),
            runtime::RandomStream(seed + 4), trials_[i].options};
  }
  std::unique_ptr<methods::Method> MethodOf(const std::vector<size_t>& trials) {
    std::vector<methods::SlotOptions> slots;
    slots.reserve(trials.size());
    for (const size_t i : trials) slots.push_back({methods::MethodSettings(trials_[i].cell), 7 * (i + 1)});
    return methods::MakeMethod(nn::SitesIn(*base_.unet), slots, torch::kCPU);
  }
  Trainer TrainerOf(const std::vector<size_t>& trials) {
    std::vector<TrainSlot> slots;
    slots.reserve(trials.size());
    for (const size_t i : trials) slots.push_back(SlotOf(i));
    return Trainer(
        base_,
        [this, trials](const std::vector<size_t>& members) {
          std::vector<size_t> chosen;
          chosen.reserve(members.size());
          for (const size_t member : members) chosen.push_back(trials[member]);
          return MethodOf(chosen);
        },
        std::move(slots));
  }

  // Drives a pack to its end as a worker would: who fails, is cancelled or has ended leaves.
  std::vector<TrialRun> RunPack(const std::vector<size_t>& trials, bool one_pass) {
    Trainer trainer = TrainerOf(trials);
    if (one_pass) trainer.Regroup({{.slots = AllOf(trials.size())}});
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

  std::vector<TrialRun> Alone(const std::vector<size_t>& trials) {
    std::vector<TrialRun> runs;
    runs.reserve(trials.size());
    for (const size_t trial : trials) runs.push_back(RunPack({trial}, /*one_pass=*/false).front());
    return runs;
  }
  // Up to the rounding of shared passes (CompareWithSolo).
  static void ExpectNear(const std::vector<std::vector<double>>& losses, const std::vector<TrialRun>& alone) {
    ASSERT_EQ(losses.size(), alone.size());
    for (size_t i = 0; i < losses.size(); ++i) {
      ASSERT_EQ(losses[i].size(), alone[i].losses.size());
      for (size_t step = 0; step < losses[i].size(); ++step) {
        EXPECT_NEAR(losses[i][step], alone[i].losses[step], 1e-5 * alone[i].losses[step]) << i << " at " << step;
      }
    }
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
      Trainer first = TrainerOf(begins_packed ? trials : std::vector<size_t>{1});
      for (int step = 0; step < 3; ++step) first.Step();
      first.SaveCheckpoint(path_, "run", slot);
    }
    const size_t slot = begins_packed ? 0 : 2;
    Trainer second = TrainerOf(begins_packed ? std::vector<size_t>{1} : trials);
    ASSERT_TRUE(second.LoadCheckpoint(path_, "run", slot));
    EXPECT_EQ(second.steps(slot), 3);
    for (int step = 3; step < kSteps; ++step) second.Step();
    second.SaveCheckpoint(path_, "run", slot);
    EXPECT_EQ(*ReadFile(path_), undisturbed) << begins_packed;
  }
}

// Whoever fills a wide pass with it, and whether anybody does: idle slots keep its shapes, so not a bit changes. The
// slots' places are those that their numbers have, as in a pack that others join.
TEST_F(PackTest, InAPassOfAWidthTheOthersChangeNothing) {
  const auto losses = [&](const std::vector<size_t>& others) {
    std::vector<size_t> trials = {0, 7};
    trials.insert(trials.end(), others.begin(), others.end());
    Trainer trainer = TrainerOf(trials);
    trainer.Regroup({{.slots = AllOf(trials.size()), .width = 4}});
    std::vector<std::vector<double>> found(2);
    for (int step = 0; step < kSteps; ++step) {
      const std::vector<SlotStep> steps = trainer.StepWith(0);
      for (size_t i = 0; i < 2; ++i) found[i].push_back(steps[i].loss);
      // One leaves in the middle, and its place is kept by an idle slot.
      if (step == 2 && trials.size() > 2) trainer.Leave(2);
    }
    return found;
  };
  const auto with_idle_ones = losses({});
  EXPECT_EQ(losses({2}), with_idle_ones);
  EXPECT_EQ(losses({3, 2}), with_idle_ones) << "one of them diverges";
  ExpectNear({with_idle_ones[0]}, Alone({0}));
}

// From one pass to passes of their own and back, each goes on with its values, moments and batches.
TEST_F(PackTest, GroupsChangeBetweenSteps) {
  const std::vector<size_t> trials = {0, 1, 2};
  const std::vector<TrialRun> alone = Alone(trials);
  Trainer trainer = TrainerOf(trials);
  const std::vector<std::vector<Trainer::PassGroup>> groupings = {
      {{.slots = {0, 1, 2}}}, {{.slots = {0, 2}, .width = 3}, {.slots = {1}}}, {{.slots = {0}}, {.slots = {1, 2}}}};
  std::vector<std::vector<double>> found(3);
  for (size_t step = 0; step < kSteps; ++step) {
    trainer.Regroup(groupings[step % 3]);
    for (const Trainer::PassGroup& group : groupings[step % 3]) {
      const std::vector<SlotStep> steps = trainer.StepWith(group.slots.front());
      for (size_t i = 0; i < 3; ++i) {
        const bool in = std::find(group.slots.begin(), group.slots.end(), i) != group.slots.end();
        EXPECT_EQ(steps[i].kind != SlotStep::Kind::kLeft, in);
        if (in) found[i].push_back(steps[i].loss);
      }
    }
  }
  ExpectNear(found, alone);
}

// Throws once, when it is asked for its n-th batch.
class ForgetfulSource : public BatchSource {
 public:
  ForgetfulSource(std::unique_ptr<BatchSource> source, int64_t at) : source_(std::move(source)), at_(at) {}
  int64_t batch_size() const override { return source_->batch_size(); }
  Batch Next() override {
    if (at_-- == 0) throw std::bad_alloc();
    return source_->Next();
  }
  TensorMap Save() const override { return source_->Save(); }
  void Restore(const TensorMap& arrays) override { source_->Restore(arrays); }

 private:
  const std::unique_ptr<BatchSource> source_;
  int64_t at_;
};

// A pass that ends in an exception has cost nobody a batch: taken again by each alone, the step is the one that it
// would have been. In between there is no state to save.
TEST_F(PackTest, AStepThatFailedIsTakenFromTheSameRows) {
  const std::vector<TrialRun> alone = Alone({0, 1, 2});
  std::vector<TrainSlot> slots;
  for (size_t i = 0; i < 3; ++i) slots.push_back(SlotOf(i));
  // Its second batch of the third step: everybody's first one is drawn, and has left gradients.
  slots[1].source = std::make_unique<ForgetfulSource>(std::move(slots[1].source), 5);
  Trainer trainer(
      base_, [this](const std::vector<size_t>& members) { return MethodOf(members); }, std::move(slots));
  const std::vector<Trainer::PassGroup> together = {{.slots = {0, 1, 2}, .width = 4}};
  const std::vector<Trainer::PassGroup> apart = {{.slots = {0}}, {.slots = {1}}, {.slots = {2}}};
  std::vector<std::vector<double>> found(3);
  for (int step = 0; step < kSteps; ++step) {
    trainer.Regroup(together);
    std::vector<SlotStep> steps;
    if (step == 2) {
      EXPECT_THROW(trainer.StepWith(0), std::bad_alloc);
      EXPECT_TRUE(trainer.MidStep(0));
      EXPECT_THROW(trainer.SaveCheckpoint(path_, "run", 0), c10::Error);
      trainer.Regroup(apart);
      for (size_t i = 0; i < 3; ++i) steps.push_back(trainer.StepOf(i));
      EXPECT_FALSE(trainer.MidStep(0));
      trainer.SaveCheckpoint(path_, "run", 0);
    } else {
      steps = trainer.StepWith(0);
    }
    for (size_t i = 0; i < 3; ++i) found[i].push_back(steps[i].loss);
  }
  ExpectNear(found, alone);
}

TEST_F(PackTest, WhatASharedPassNeedsIsSaid) {
  const TrainSlot first = SlotOf(0);
  TrainSlot other = SlotOf(1);
  EXPECT_EQ(WhyNotOneForward(first, other), "");
  other.options.accumulation = 4;
  EXPECT_EQ(WhyNotOneForward(first, other), "they accumulate 2 and 4 batches to a step");
  other = SlotOf(1);
  other.source = tasks::MakeDreamBoothSource(data_, 3, {1, 2, 3});
  EXPECT_EQ(WhyNotOneForward(first, other), "their batches have 4 and 6 rows");
  std::vector<TrainSlot> slots;
  slots.push_back(SlotOf(0));
  slots.push_back(SlotOf(1));
  slots.back().source = tasks::MakeDreamBoothSource(data_, 3, {1, 2, 3});
  Trainer trainer(
      base_, [this](const std::vector<size_t>& members) { return MethodOf(members); }, std::move(slots));
  EXPECT_EQ(trainer.WhyApart(0, 1), "their batches have 4 and 6 rows");
  EXPECT_THROW(trainer.Regroup({{.slots = {0, 1}}}), c10::Error);
  EXPECT_THROW(trainer.Regroup({{.slots = {0}}}), c10::Error) << "the other has no group";
  EXPECT_EQ(trainer.StepOf(1).kind, SlotStep::Kind::kStepped) << "nothing was changed";
}

}  // namespace
}  // namespace loupe::worker::train
