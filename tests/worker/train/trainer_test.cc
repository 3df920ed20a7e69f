// Training steps against the same arithmetic written out, and resumption bit for bit.
#include "worker/train/trainer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <torch/utils.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>

#include "common/atomic_file.h"
#include "tests/worker/methods/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/diffusion/learned_variance.h"
#include "worker/io/safetensors.h"
#include "worker/methods/method_registry.h"
#include "worker/models/weights.h"
#include "worker/nn/tuning_sites.h"
#include "worker/runtime/recompute.h"
#include "worker/tasks/finetune.h"
#include "worker/train/rate_schedule.h"
#include "worker/train/validation.h"

namespace loupe::worker::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::unique_ptr<methods::Method> Attach(base::BaseModel& base, const std::vector<uint64_t>& seeds) {
  std::vector<methods::SlotOptions> slots;
  for (const uint64_t seed : seeds) slots.push_back({methods::CellSettings({}), seed});
  return methods::MakeMethod(nn::SitesIn(*base.unet), slots, torch::kCPU);
}

TrainSlot Slot(const std::shared_ptr<const tasks::DreamBoothData>& data, uint64_t seed, const TrainOptions& options) {
  return {tasks::MakeDreamBoothSource(data, 2, {seed, seed + 1, seed + 2}), runtime::RandomStream(seed + 3),
          runtime::RandomStream(seed + 4), options};
}

std::vector<TrainSlot> Slots(const std::shared_ptr<const tasks::DreamBoothData>& data,
                             const std::vector<uint64_t>& seeds, const TrainOptions& options) {
  std::vector<TrainSlot> slots;
  for (const uint64_t seed : seeds) slots.push_back(Slot(data, seed, options));
  return slots;
}

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() : base_(MakeSmallBase()) {
    at::set_num_threads(1);
    path_ = ::testing::TempDir() + "trainer_test_" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove(path_);
  }
  ~TrainerTest() override { std::filesystem::remove(path_); }

  base::BaseModel base_;
  std::string path_;
  const TrainOptions options_{.optimizer = {.learning_rate = 1e-2}};
};

// The first step's loss from the formula: mean over the subject's rows plus w times the mean over the class rows, with
// the noise and timesteps of the named streams.
TEST_F(TrainerTest, LossIsInstancePlusWeightedPriorOnTheStreamsNoise) {
  const auto data = MakeSmallData(/*prior=*/true, /*weight=*/0.25);
  const auto method = Attach(base_, {5});
  Trainer trainer(base_, *method, Slots(data, {50}, options_));

  const Batch batch = tasks::MakeDreamBoothSource(data, 2, {50, 51, 52})->Next();
  ASSERT_EQ(batch.latents.size(0), 4);
  const auto noise = runtime::RandomStream(53).Normal(batch.latents.sizes());
  const auto t = runtime::RandomStream(54).Integers(1000, {4});
  const auto alpha = base_.schedule.alphas_cumprod().index_select(0, t).view({4, 1, 1, 1});
  const auto noisy = alpha.sqrt() * batch.latents + (1 - alpha).sqrt() * noise;
  const auto prediction = base_.unet(noisy, t, batch.context);
  const auto rows = (prediction - noise).square().mean({1, 2, 3});
  const double expected =
      rows.narrow(0, 0, 2).mean().item<double>() + 0.25 * rows.narrow(0, 2, 2).mean().item<double>();
  // The same float32 operations in nearly the same order.
  EXPECT_NEAR(trainer.Step().front().loss, expected, 1e-5);
}

// min(SNR, 5)/SNR on each row, SNR = ᾱ/(1 − ᾱ); and noise with a second draw of 0.3 that is constant over each channel.
TEST_F(TrainerTest, LossIsWeightedBySignalToNoiseOnOffsetNoise) {
  const auto data = MakeSmallData(/*prior=*/false);
  const auto method = Attach(base_, {5});
  TrainOptions options = options_;
  options.min_snr_gamma = 5;
  options.noise_offset = 0.3;
  Trainer trainer(base_, *method, Slots(data, {50}, options));

  const Batch batch = tasks::MakeDreamBoothSource(data, 2, {50, 51, 52})->Next();
  runtime::RandomStream stream(53);
  const auto plain = stream.Normal({2, 4, 8, 8});
  const auto noise = plain + 0.3 * stream.Normal({2, 4, 1, 1});
  const auto t = runtime::RandomStream(54).Integers(1000, {2});
  const auto prediction = base_.unet(base_.schedule.AddNoise(batch.latents, noise, t), t, batch.context);
  double expected = 0;
  for (int64_t row = 0; row < 2; ++row) {
    const double alpha = base_.schedule.AlphaBar(t[row].item<int64_t>()), snr = alpha / (1 - alpha);
    expected += std::min(snr, 5.0) / snr * (prediction[row] - noise[row]).square().mean().item<double>() / 2;
  }
  EXPECT_NEAR(trainer.Step().front().loss, expected, 1e-5);
}

// L_hybrid = L_simple + λ T L: the loss, and the gradient that reaches the adapter, which is the bound's with the mean
// held fixed.
TEST_F(TrainerTest, APredictedVarianceIsTrainedByItsBoundBesideTheNoise) {
  base::BaseModel base = MakeSmallBase(/*variance=*/true);
  const auto data = MakeSmallData(/*prior=*/true, /*weight=*/0.25);
  constexpr double kWeight = 0.002;
  std::vector<double> losses;
  std::vector<TensorMap> moments;
  for (const double weight : {0.0, kWeight}) {
    const auto method = Attach(base, {5});
    TrainOptions options = options_;
    options.vlb_weight = weight;
    Trainer trainer(base, *method, Slots(data, {50}, options));
    losses.push_back(trainer.Step().front().loss);
    trainer.SaveCheckpoint(path_, "run");
    const auto file = io::SafetensorsFile::Open(path_);
    ASSERT_TRUE(file.ok()) << file.status();
    moments.emplace_back();
    for (const auto& [name, view] : file->arrays()) moments.back()[name] = models::ToTensor(view);
  }

  const auto method = Attach(base, {5});
  const Batch batch = tasks::MakeDreamBoothSource(data, 2, {50, 51, 52})->Next();
  const auto noise = runtime::RandomStream(53).Normal(batch.latents.sizes());
  const auto t = runtime::RandomStream(54).Integers(1000, {4});
  const auto noisy = base.schedule.AddNoise(batch.latents, noise, t);
  const auto parts = base.unet(noisy, t, batch.context).chunk(2, 1);
  const auto guess = base.schedule.X0FromOutput(noisy, parts[0], t);
  const auto bound = diffusion::LearnedVariance(base.schedule).BoundTerms(batch.latents, noisy, guess, parts[1], t);
  const auto added = kWeight * 1000 * (bound * torch::tensor({0.5, 0.5, 0.125, 0.125}, torch::kFloat64)).sum();
  EXPECT_GT(added.item<double>(), 0);
  EXPECT_NEAR(losses[1] - losses[0], added.item<double>(), 1e-5 * losses[1]);
  added.backward();
  for (const methods::NamedParameter& parameter : method->parameters()) {
    const std::string name = "optimizer." + parameter.name + ".exp_avg";
    // AdamW's first moment is a tenth of the first gradient.
    const auto difference = 10 * (moments[1].at(name) - moments[0].at(name));
    const auto expected = parameter.value.grad()[0];
    // Float32 gradients of two runs, subtracted.
    EXPECT_LE((difference - expected).norm().item<double>(),
              1e-4 * 10 * moments[0].at(name).norm().item<double>() + 1e-9)
        << parameter.name;
    EXPECT_GT(expected.norm().item<double>(), 0) << parameter.name;
  }
}

TEST_F(TrainerTest, AVarianceCannotBeTrainedOnABaseThatPredictsNone) {
  const auto method = Attach(base_, {5});
  TrainOptions options = options_;
  options.vlb_weight = 0.001;
  EXPECT_THROW(Trainer(base_, *method, Slots(MakeSmallData(false), {50}, options)), c10::Error);
}

// Σ of the squared errors over Σ of the squared targets in each step, averaged: the first 20 count alike.
TEST_F(TrainerTest, RunningErrorsAreMeansBesidePredictingNothing) {
  const auto data = MakeSmallData(false);
  const auto method = Attach(base_, {5});
  TrainOptions options = options_;
  options.optimizer.learning_rate = 0;
  Trainer trainer(base_, *method, Slots(data, {50}, options));
  runtime::RandomStream noise(53), timesteps(54);
  const auto source = tasks::MakeDreamBoothSource(data, 2, {50, 51, 52});
  double sum = 0;
  for (int step = 1; step <= 3; ++step) {
    const Batch batch = source->Next();
    const auto e = noise.Normal({2, 4, 8, 8}), t = timesteps.Integers(1000, {2});
    const auto prediction = base_.unet(base_.schedule.AddNoise(batch.latents, e, t), t, batch.context);
    sum += ((prediction - e).square().mean() / e.square().mean()).item<double>();
    EXPECT_NEAR(trainer.Step().front().running_error, sum / step, 1e-5) << step;
  }
}

TEST_F(TrainerTest, FortyStepsLowerTheLossOnFixedNoise) {
  const auto data = MakeSmallData(false);
  const auto method = Attach(base_, {5});
  const auto validation = [&] {
    torch::NoGradGuard no_grad;
    runtime::RandomStream stream(1);
    const auto latents = data->instance.latents.repeat({8, 1, 1, 1});
    const auto noise = stream.Normal(latents.sizes());
    const auto t = stream.Integers(1000, {latents.size(0)});
    const auto context = data->instance.context.expand({latents.size(0), -1, -1});
    return (base_.unet(base_.schedule.AddNoise(latents, noise, t), t, context) - noise).square().mean().item<double>();
  };
  const double before = validation();
  Trainer trainer(base_, *method, Slots(data, {50}, options_));
  for (int i = 0; i < 40; ++i) trainer.Step();
  EXPECT_LT(validation(), before);
}

TEST_F(TrainerTest, ValidationLossIsTheMeanSquaredErrorOfItsRows) {
  runtime::RandomStream stream(21);
  constexpr int64_t kRows = 19;  // more than the network sees at a time
  const ValidationRows rows{stream.Normal({kRows, 4, 8, 8}), stream.Normal({kRows, 5, 16}),
                            stream.Normal({kRows, 4, 8, 8}), stream.Integers(1000, {kRows})};
  torch::NoGradGuard no_grad;
  double expected = 0;
  for (int64_t i = 0; i < kRows; ++i) {
    const auto alpha = base_.schedule.AlphaBar(rows.timesteps[i].item<int64_t>());
    const auto noisy =
        std::sqrt(alpha) * rows.latents.narrow(0, i, 1) + std::sqrt(1 - alpha) * rows.noise.narrow(0, i, 1);
    const auto said = base_.unet(noisy, rows.timesteps.narrow(0, i, 1), rows.context.narrow(0, i, 1));
    expected += (said - rows.noise.narrow(0, i, 1)).square().mean().item<double>() / kRows;
  }
  EXPECT_NEAR(ValidationLoss(base_, rows) / expected, 1, 1e-5);
  EXPECT_EQ(ValidationLoss(base_, rows), ValidationLoss(base_, rows)) << "nothing is drawn";
}

TEST_F(TrainerTest, OnlyTheMethodIsTrained) {
  const auto before = base_.unet->parameters().front().clone();
  const auto method = Attach(base_, {5});
  Trainer trainer(base_, *method, Slots(MakeSmallData(true), {50}, options_));
  trainer.Step();
  for (const auto& weight : base_.unet->parameters()) EXPECT_FALSE(weight.grad().defined());
  EXPECT_TRUE(torch::equal(before, base_.unet->parameters().front()));
}

// Killed at two arbitrary steps, each time losing what came after the checkpoint: the same values, bit for bit, as
// without.
TEST_F(TrainerTest, ARunKilledTwiceEndsBitForBitAsAnUndisturbedOne) {
  const auto data = MakeSmallData(true);
  constexpr int kSteps = 9;
  std::map<std::string, torch::Tensor> undisturbed;
  std::vector<double> losses;
  {
    const auto method = Attach(base_, {5});
    Trainer trainer(base_, *method, Slots(data, {50}, options_));
    for (int i = 0; i < kSteps; ++i) losses.push_back(trainer.Step().front().loss);
    undisturbed = method->Export(0);
  }
  {
    const auto method = Attach(base_, {5});
    Trainer trainer(base_, *method, Slots(data, {50}, options_));
    while (trainer.steps() < 2) trainer.Step();
    trainer.SaveCheckpoint(path_, "run");
    for (int lost = 0; lost < 3; ++lost) trainer.Step();
  }
  {
    // Another process: other values and streams until the checkpoint is loaded.
    const auto method = Attach(base_, {77});
    Trainer trainer(base_, *method, Slots(data, {5000}, options_));
    ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run"));
    EXPECT_EQ(trainer.steps(), 2);
    while (trainer.steps() < 7) {
      const auto step = static_cast<size_t>(trainer.steps());
      EXPECT_EQ(trainer.Step().front().loss, losses[step]);
    }
    trainer.SaveCheckpoint(path_, "run");
    trainer.Step();
  }
  const auto method = Attach(base_, {78});
  Trainer trainer(base_, *method, Slots(data, {6000}, options_));
  ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run"));
  EXPECT_EQ(trainer.steps(), 7);
  while (trainer.steps() < kSteps) trainer.Step();
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, undisturbed.at(name))) << name;
}

// The same for every method that runs with its defaults alone on this base; a LoRA and AdaptFormer drop values.
TEST_F(TrainerTest, EveryMethodResumesBitForBit) {
  const auto data = MakeSmallData(true);
  for (const char* kind : {"lora", "full", "bitfit", "difffit", "vpt-deep", "vpt-shallow", "adaptformer",
                           "sequential-adapter", "ia3", "loha", "lokr", "oft"}) {
    std::map<std::string, std::string> values = {{"method.kind", kind}};
    if (values["method.kind"] == "lora") values["method.dropout"] = "0.3";
    const auto attach = [&](uint64_t seed) {
      return methods::MakeMethod(nn::SitesIn(*base_.unet), {{methods::MethodSettings(values), seed}}, torch::kCPU);
    };
    std::map<std::string, torch::Tensor> undisturbed;
    {
      const auto method = attach(5);
      Trainer trainer(base_, *method, Slots(data, {50}, options_));
      for (int i = 0; i < 2; ++i) trainer.Step();
      trainer.SaveCheckpoint(path_, "run");
      for (int i = 0; i < 2; ++i) trainer.Step();
      undisturbed = method->Export(0);
    }
    // Another seed of the method's values, which the checkpoint replaces; dropout goes by the seed.
    const bool drops = values.contains("method.dropout") || values["method.kind"] == "adaptformer";
    const auto method = attach(drops ? 5 : 77);
    Trainer trainer(base_, *method, Slots(data, {5000}, options_));
    ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run")) << kind;
    for (int i = 0; i < 2; ++i) trainer.Step();
    for (const auto& [name, value] : method->Export(0)) {
      EXPECT_TRUE(torch::equal(value, undisturbed.at(name))) << kind << ": " << name;
    }
  }
}

TEST_F(TrainerTest, ResumesBitForBitWithAccumulationScheduleAndAverage) {
  const auto data = MakeSmallData(true);
  TrainOptions options = options_;
  options.accumulation = 2;
  options.ema_decay = 0.9;
  options.noise_offset = 0.1;
  options.min_snr_gamma = 5;
  options.schedule = {.warmup_steps = 2, .cosine = true, .total_steps = 6};
  std::map<std::string, torch::Tensor> undisturbed;
  double running_error = 0;
  {
    const auto method = Attach(base_, {5});
    Trainer trainer(base_, *method, Slots(data, {50}, options));
    for (int i = 0; i < 3; ++i) trainer.Step();
    trainer.SaveCheckpoint(path_, "run");
    for (int i = 0; i < 3; ++i) running_error = trainer.Step().front().running_error;
    trainer.SwapAverage();
    undisturbed = method->Export(0);
  }
  const auto method = Attach(base_, {6});
  Trainer trainer(base_, *method, Slots(data, {60}, options));
  ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run"));
  for (int i = 0; i < 2; ++i) trainer.Step();
  EXPECT_EQ(trainer.Step().front().running_error, running_error);
  const auto trained = method->Export(0);
  trainer.SwapAverage();
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, undisturbed.at(name))) << name;
  trainer.SwapAverage();
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, trained.at(name))) << name;
}

// Without pictures of the class and flips, two batches of two draw what one batch of four draws.
TEST_F(TrainerTest, AccumulatedBatchesAreOneLargeBatch) {
  auto data = std::make_shared<tasks::DreamBoothData>(*MakeSmallData(false));
  data->instance.mirrored = torch::Tensor();
  std::vector<double> losses, norms;
  for (const int64_t accumulation : {1, 2}) {
    const auto method = Attach(base_, {5});
    TrainOptions options = options_;
    options.accumulation = accumulation;
    std::vector<TrainSlot> slots;
    slots.push_back({tasks::MakeDreamBoothSource(data, 4 / accumulation, {50, 51, 52}), runtime::RandomStream(53),
                     runtime::RandomStream(54), options});
    Trainer trainer(base_, *method, std::move(slots));
    for (int i = 0; i < 2; ++i) {
      const SlotStep step = trainer.Step().front();
      losses.push_back(step.loss);
      norms.push_back(step.gradient_norm);
    }
  }
  for (size_t step : {0u, 1u}) {
    // Float32 sums in another order; the second step comes after an AdamW step, which makes more of rounding.
    const double tolerance = step == 0 ? 1e-5 : 1e-3;
    EXPECT_NEAR(losses[2 + step] / losses[step], 1, tolerance);
    EXPECT_NEAR(norms[2 + step] / norms[step], 1, tolerance);
  }
}

// value ← d·value + (1 − d)·trained with d = min(decay, (1 + t)/(10 + t)), from the initial values.
TEST_F(TrainerTest, TheAverageDecaysAsItsFormulaSays) {
  const auto data = MakeSmallData(false);
  const auto method = Attach(base_, {5});
  TrainOptions options = options_;
  options.ema_decay = 0.2;
  Trainer trainer(base_, *method, Slots(data, {50}, options));
  auto expected = method->Export(0);
  for (auto& [name, value] : expected) value = value.clone();
  for (int t = 1; t <= 3; ++t) {
    trainer.Step();
    const double decay = std::min(0.2, (1.0 + t) / (10.0 + t));
    for (const auto& [name, value] : method->Export(0)) expected[name] = decay * expected[name] + (1 - decay) * value;
  }
  trainer.SwapAverage();
  for (const auto& [name, value] : method->Export(0)) {
    EXPECT_LE((value - expected.at(name)).abs().max().item<double>(), 1e-6) << name;
  }
}

TEST(RateScheduleTest, RisesThenStaysThenFallsAlongALine) {
  const RateSchedule schedule{.warmup_steps = 10, .linear_tail = 0.2, .total_steps = 100};
  EXPECT_DOUBLE_EQ(schedule.FactorAt(0), 0.1);
  EXPECT_DOUBLE_EQ(schedule.FactorAt(9), 1);
  EXPECT_DOUBLE_EQ(schedule.FactorAt(80), 1);
  EXPECT_DOUBLE_EQ(schedule.FactorAt(90), 0.5);
  EXPECT_DOUBLE_EQ(schedule.FactorAt(99), 0.05);
  EXPECT_DOUBLE_EQ(schedule.FactorAt(100), 0);
}

TEST(RateScheduleTest, RisesEvenlyThenFollowsHalfACosine) {
  const RateSchedule schedule{.warmup_steps = 4, .cosine = true, .total_steps = 12};
  EXPECT_DOUBLE_EQ(schedule.FactorAt(0), 0.25);
  EXPECT_DOUBLE_EQ(schedule.FactorAt(3), 1);
  EXPECT_DOUBLE_EQ(schedule.FactorAt(4), 1);
  EXPECT_NEAR(schedule.FactorAt(8), 0.5, 1e-12);
  EXPECT_NEAR(schedule.FactorAt(12), 0, 1e-12);
  EXPECT_DOUBLE_EQ(RateSchedule{}.FactorAt(1000), 1);
}

TEST(CaptionedSourceTest, DropsCaptionsAtTheGivenShareAndSeesEveryPicture) {
  auto data = std::make_shared<tasks::CaptionedPictures>();
  data->latents = torch::arange(5, torch::kFloat32).view({5, 1, 1, 1}).clone();
  data->contexts = torch::stack({torch::full({1, 2}, 1.), torch::full({1, 2}, 2.)});
  data->caption_of = torch::tensor({0, 1, 0, 1, 0}, torch::kInt64);
  data->empty_context = torch::zeros({1, 1, 2});
  data->caption_dropout = 0.25;
  const auto source = tasks::MakeCaptionedSource(data, 5, {1, 2, 3});
  double dropped = 0;
  for (int i = 0; i < 200; ++i) {
    const Batch batch = source->Next();
    EXPECT_EQ(batch.latents.sum().item<double>(), 10) << "a whole pass has every picture once";
    for (int64_t row = 0; row < 5; ++row) {
      const double context = batch.context[row].mean().item<double>();
      const bool odd = static_cast<int>(batch.latents[row].item<double>()) % 2 == 1;
      if (context == 0) {
        ++dropped;
      } else {
        EXPECT_EQ(context, odd ? 2 : 1);
      }
    }
  }
  // 1000 draws: the standard deviation of the share is 0.014.
  EXPECT_NEAR(dropped / 1000, 0.25, 0.06);
}

TEST_F(TrainerTest, ACheckpointOfAnotherRunIsNotUsed) {
  const auto data = MakeSmallData(true);
  const auto method = Attach(base_, {5});
  Trainer trainer(base_, *method, Slots(data, {50}, options_));
  EXPECT_FALSE(trainer.LoadCheckpoint(path_, "run")) << "there is none";
  trainer.Step();
  trainer.SaveCheckpoint(path_, "run");
  EXPECT_FALSE(trainer.LoadCheckpoint(path_, "another run"));
  std::filesystem::resize_file(path_, 100);
  EXPECT_FALSE(trainer.LoadCheckpoint(path_, "run")) << "a torn file is no checkpoint";
  EXPECT_EQ(trainer.steps(), 1);
}

TEST_F(TrainerTest, AFlippedBitInACheckpointIsSeen) {
  const auto method = Attach(base_, {5});
  Trainer trainer(base_, *method, Slots(MakeSmallData(true), {50}, options_));
  trainer.Step();
  trainer.SaveCheckpoint(path_, "run");
  std::string bytes = *ReadFile(path_);
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 0x40);
  std::ofstream(path_, std::ios::binary) << bytes;
  const auto before = method->Export(0);
  EXPECT_FALSE(trainer.LoadCheckpoint(path_, "run"));
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, before.at(name))) << name;
}

// One value of a network's parameter.
void SetFirst(torch::nn::Module& network, const std::string& name, double value) {
  torch::NoGradGuard no_grad;
  auto parameters = network.named_parameters();
  ASSERT_TRUE(parameters.contains(name)) << name;
  parameters[name].flatten()[0].fill_(value);
}

TEST_F(TrainerTest, ABrokenBaseIsTheCauseWheneverItShows) {
  const auto method = Attach(base_, {5});
  Trainer trainer(base_, *method, Slots(MakeSmallData(true), {50}, options_));
  SetFirst(*base_.unet, "conv_out.bias", std::numeric_limits<double>::infinity());
  EXPECT_THAT(trainer.Step().front().cause, AllOf(HasSubstr("small: what the UNet predicts: "), HasSubstr("not finite"),
                                                  HasSubstr("the base is broken")));
  SetFirst(*base_.unet, "conv_out.bias", 0);
  EXPECT_EQ(trainer.Step().front().cause, "");
  SetFirst(*base_.unet, "conv_out.bias", std::nan(""));
  EXPECT_THAT(trainer.Step().front().cause, HasSubstr("the base is broken")) << "after a step as before the first";
}

TEST_F(TrainerTest, InitialValuesAreTheCauseBeforeTrainingOnly) {
  const auto method = Attach(base_, {5});
  Trainer trainer(base_, *method, Slots(MakeSmallData(true), {50}, options_));
  const auto spoil = [&](double value) {
    torch::NoGradGuard no_grad;
    torch::Tensor parameter = method->parameters().front().value;
    const torch::Tensor before = parameter.detach().clone();
    parameter.fill_(value);
    return before;
  };
  const torch::Tensor initial = spoil(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(trainer.Step().front().cause, HasSubstr("with the adapter's initial values"));
  {
    torch::NoGradGuard no_grad;
    torch::Tensor parameter = method->parameters().front().value;
    parameter.copy_(initial);
  }
  EXPECT_TRUE(std::isfinite(trainer.Step().front().loss));
  EXPECT_EQ(trainer.DescribeNotFinite(), "");
  spoil(std::numeric_limits<double>::quiet_NaN());
  const SlotStep diverged = trainer.Step().front();
  EXPECT_FALSE(std::isfinite(diverged.loss));
  EXPECT_EQ(diverged.cause, "") << "training did it";
  EXPECT_THAT(trainer.DescribeNotFinite(), AllOf(HasSubstr(method->parameters().front().name), HasSubstr("nan")));
}

// A limit on the size of files stands in for a full disk.
TEST_F(TrainerTest, OnAFullDiskTheErrorNamesTheCheckpointAndTheOldOneStays) {
  const auto method = Attach(base_, {5});
  Trainer trainer(base_, *method, Slots(MakeSmallData(true), {50}, options_));
  trainer.Step();
  trainer.SaveCheckpoint(path_, "run");
  trainer.Step();
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small{1000, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    trainer.SaveCheckpoint(path_, "run");
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, before);
  EXPECT_NE(message.find("cannot write '" + path_ + "'"), std::string::npos) << message;
  ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run"));
  EXPECT_EQ(trainer.steps(), 1);
}

TEST_F(TrainerTest, ALossThatIsNotFiniteTakesNoStep) {
  auto data = std::make_shared<tasks::DreamBoothData>(*MakeSmallData(false));
  data->instance.latents = data->instance.latents.clone().fill_(std::numeric_limits<float>::quiet_NaN());
  data->instance.mirrored = data->instance.latents;
  const auto method = Attach(base_, {5});
  const auto before = method->Export(0);
  Trainer trainer(base_, *method, Slots(data, {50}, options_));
  EXPECT_TRUE(std::isnan(trainer.Step().front().loss));
  EXPECT_EQ(trainer.steps(), 0);
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, before.at(name)));
}

// The same kernels on the same numbers; only the order in which gradients of one tensor are added up may differ:
// float32 rounding, relative to the gradient's length. (Trained values would not do: AdamW turns the rounding of a
// gradient near 0 into a whole step.)
TEST_F(TrainerTest, RecomputedBlocksGiveTheSameLossAndGradients) {
  const auto random = at::make_generator<at::CPUGeneratorImpl>(1);
  const auto x = torch::randn({2, 4, 8, 8}, random), target = torch::ones_like(x);
  const auto at = torch::tensor({int64_t{10}, int64_t{500}});
  const auto context = torch::randn({2, 5, 16}, random);
  for (const auto& [input, output] :
       {std::pair{"CA_out", "FFN_in"}, std::pair{"CA_c", "CA_c"}, std::pair{"Res_in", "Res_out"}}) {
    SCOPED_TRACE(input);
    std::vector<double> losses;
    std::vector<std::vector<torch::Tensor>> gradients;
    for (const bool recompute : {false, true}) {
      const settings::Settings settings = methods::CellSettings({{"method.input", input}, {"method.output", output}});
      const auto method = methods::MakeMethod(nn::SitesIn(*base_.unet), {{settings, 5}}, torch::kCPU);
      const runtime::RecomputeScope scope(recompute);
      const auto loss = torch::mse_loss(base_.unet(x, at, context), target);
      loss.backward();
      losses.push_back(loss.item<double>());
      for (const methods::NamedParameter& parameter : method->parameters()) {
        gradients.resize(losses.size());
        ASSERT_TRUE(parameter.value.grad().defined()) << parameter.name;
        gradients.back().push_back(parameter.value.grad().clone());
      }
    }
    EXPECT_EQ(losses[0], losses[1]);
    ASSERT_EQ(gradients[0].size(), gradients[1].size());
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      const double length = gradients[0][i].norm().item<double>();
      EXPECT_GT(length, 0);
      EXPECT_LE((gradients[0][i] - gradients[1][i]).norm().item<double>(), 1e-5 * length);
    }
  }
}

// bfloat16 keeps 8 bits: a loss of order 1 agrees to about 1 %.
TEST_F(TrainerTest, Bfloat16StepsStayNearFloat32WithAndWithoutRecomputing) {
  const auto data = MakeSmallData(true);
  std::vector<double> losses;
  for (const auto& [precision, recompute] :
       {std::pair{torch::kFloat, false}, std::pair{torch::kBFloat16, false}, std::pair{torch::kBFloat16, true}}) {
    const auto method = Attach(base_, {5});
    TrainOptions options = options_;
    options.precision = precision;
    options.recompute = recompute;
    Trainer trainer(base_, *method, Slots(data, {50}, options));
    double loss = 0;
    for (int i = 0; i < 4; ++i) loss = trainer.Step().front().loss;
    losses.push_back(loss);
    for (const methods::NamedParameter& parameter : method->parameters()) {
      EXPECT_EQ(parameter.value.scalar_type(), torch::kFloat) << "the trained values stay float32";
    }
  }
  EXPECT_NE(losses[1], losses[0]) << "bfloat16 was used";
  EXPECT_NEAR(losses[1] / losses[0], 1, 0.03);
  EXPECT_NEAR(losses[2] / losses[1], 1, 1e-3) << "recomputed in the same precision";
}

TEST_F(TrainerTest, ALossScaleChangesNothingUntilGradientsOverflow) {
  const auto data = MakeSmallData(true);
  const auto plain = Attach(base_, {5});
  std::map<std::string, torch::Tensor> expected;
  {
    Trainer trainer(base_, *plain, Slots(data, {50}, options_));
    for (int i = 0; i < 3; ++i) trainer.Step();
    expected = plain->Export(0);
  }
  base::BaseModel scaled = MakeSmallBase();
  const auto method = Attach(scaled, {5});
  TrainOptions options = options_;
  options.loss_scale = 65536;
  Trainer trainer(scaled, *method, Slots(data, {50}, options));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(trainer.Step().front().kind, SlotStep::Kind::kStepped);
  // A power of two is exact in float32.
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, expected.at(name))) << name;
}

TEST_F(TrainerTest, OverflowedStepsAreSkippedAndHalveTheScaleAlsoAfterAResume) {
  const auto data = MakeSmallData(true);
  const auto method = Attach(base_, {5});
  const auto before = method->Export(0);
  TrainOptions options = options_;
  options.loss_scale = 0x1p+140;  // beyond float32
  Trainer trainer(base_, *method, Slots(data, {50}, options));
  ASSERT_EQ(trainer.Step().front().kind, SlotStep::Kind::kSkipped);
  EXPECT_EQ(trainer.steps(), 0);
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, before.at(name))) << name;
  int skipped = 1;
  while (trainer.steps() < 1) {
    skipped += trainer.Step().front().kind == SlotStep::Kind::kSkipped ? 1 : 0;
    ASSERT_LT(skipped, 100);
  }
  trainer.SaveCheckpoint(path_, "run");
  const SlotStep next = trainer.Step().front();
  const auto expected = method->Export(0);
  base::BaseModel base = MakeSmallBase();
  const auto again = Attach(base, {77});
  Trainer resumed(base, *again, Slots(data, {5000}, options));
  ASSERT_TRUE(resumed.LoadCheckpoint(path_, "run"));
  const SlotStep step = resumed.Step().front();
  EXPECT_EQ(step.kind, SlotStep::Kind::kStepped) << "goes on with the scale that was found";
  EXPECT_EQ(step.loss, next.loss);
  for (const auto& [name, value] : again->Export(0)) EXPECT_TRUE(torch::equal(value, expected.at(name))) << name;
}

TEST(LossScalerTest, HalvesAfterAnOverflowAndDoublesAfterTwoThousandGoodSteps) {
  LossScaler scaler(1024);
  scaler.Update(false);
  EXPECT_EQ(scaler.scale(), 512);
  for (int i = 0; i < 1999; ++i) scaler.Update(true);
  EXPECT_EQ(scaler.scale(), 512);
  scaler.Update(true);
  EXPECT_EQ(scaler.scale(), 1024);
  EXPECT_EQ(scaler.good_steps(), 0);
  for (int i = 0; i < 27; ++i) scaler.Update(false);
  EXPECT_TRUE(scaler.exhausted());
}

}  // namespace
}  // namespace loupe::worker::train
