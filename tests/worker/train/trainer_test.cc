// Training steps against the same arithmetic written out, and resumption bit for bit.
#include "worker/train/trainer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <filesystem>

#include "tests/worker/adapters/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/adapters/method_registry.h"
#include "worker/layers/recompute.h"
#include "worker/layers/tappable.h"
#include "worker/train/captioned.h"
#include "worker/train/rate_schedule.h"

namespace loupe::worker {
namespace {

std::unique_ptr<Method> Attach(BaseModel& base, const std::vector<uint64_t>& seeds) {
  std::vector<SlotOptions> slots;
  for (const uint64_t seed : seeds) slots.push_back({CellSettings({}), seed});
  return MakeMethod(TappableBlocksIn(*base.unet), slots, torch::kCPU);
}

TrainSlot Slot(const std::shared_ptr<const DreamBoothData>& data, uint64_t seed) {
  return {MakeDreamBoothSource(data, 2, {seed, seed + 1, seed + 2}), RandomStream(seed + 3), RandomStream(seed + 4)};
}

std::vector<TrainSlot> Slots(const std::shared_ptr<const DreamBoothData>& data, const std::vector<uint64_t>& seeds) {
  std::vector<TrainSlot> slots;
  for (const uint64_t seed : seeds) slots.push_back(Slot(data, seed));
  return slots;
}

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() : base_(MakeSmallBase()) {
    at::set_num_threads(1);
    path_ = testing::TempDir() + "trainer_test_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove(path_);
  }
  ~TrainerTest() override { std::filesystem::remove(path_); }

  BaseModel base_;
  std::string path_;
  const TrainOptions options_{.optimizer = {.learning_rate = 1e-2}};
};

// The first step's loss from the formula: mean over the subject's rows plus w times the mean over the class rows, with the
// noise and timesteps of the named streams.
TEST_F(TrainerTest, LossIsInstancePlusWeightedPriorOnTheStreamsNoise) {
  const auto data = MakeSmallData(/*prior=*/true, /*weight=*/0.25);
  const auto method = Attach(base_, {5});
  Trainer trainer(base_, *method, Slots(data, {50}), options_);

  const Batch batch = MakeDreamBoothSource(data, 2, {50, 51, 52})->Next();
  ASSERT_EQ(batch.latents.size(0), 4);
  const auto noise = RandomStream(53).Normal(batch.latents.sizes());
  const auto t = RandomStream(54).Integers(1000, {4});
  const auto alpha = base_.schedule.alphas_cumprod().index_select(0, t).view({4, 1, 1, 1});
  const auto noisy = alpha.sqrt() * batch.latents + (1 - alpha).sqrt() * noise;
  const auto prediction = base_.unet(noisy, t, batch.context);
  const auto rows = (prediction - noise).square().mean({1, 2, 3});
  const double expected =
      rows.narrow(0, 0, 2).mean().item<double>() + 0.25 * rows.narrow(0, 2, 2).mean().item<double>();
  // The same float32 operations in nearly the same order.
  EXPECT_NEAR(trainer.Step().losses.front(), expected, 1e-5);
}

TEST_F(TrainerTest, FortyStepsLowerTheLossOnFixedNoise) {
  const auto data = MakeSmallData(false);
  const auto method = Attach(base_, {5});
  const auto validation = [&] {
    torch::NoGradGuard no_grad;
    RandomStream stream(1);
    const auto latents = data->instance.latents.repeat({8, 1, 1, 1});
    const auto noise = stream.Normal(latents.sizes());
    const auto t = stream.Integers(1000, {latents.size(0)});
    const auto context = data->instance.context.expand({latents.size(0), -1, -1});
    return (base_.unet(base_.schedule.AddNoise(latents, noise, t), t, context) - noise).square().mean().item<double>();
  };
  const double before = validation();
  Trainer trainer(base_, *method, Slots(data, {50}), options_);
  for (int i = 0; i < 40; ++i) trainer.Step();
  EXPECT_LT(validation(), before);
}

TEST_F(TrainerTest, OnlyTheMethodIsTrained) {
  const auto before = base_.unet->parameters().front().clone();
  const auto method = Attach(base_, {5});
  Trainer trainer(base_, *method, Slots(MakeSmallData(true), {50}), options_);
  trainer.Step();
  for (const auto& weight : base_.unet->parameters()) EXPECT_FALSE(weight.grad().defined());
  EXPECT_TRUE(torch::equal(before, base_.unet->parameters().front()));
}

// Killed at two arbitrary steps, each time losing what came after the checkpoint: the same values, bit for bit, as without.
TEST_F(TrainerTest, ARunKilledTwiceEndsBitForBitAsAnUndisturbedOne) {
  const auto data = MakeSmallData(true);
  constexpr int kSteps = 9;
  std::map<std::string, torch::Tensor> undisturbed;
  std::vector<double> losses;
  {
    const auto method = Attach(base_, {5});
    Trainer trainer(base_, *method, Slots(data, {50}), options_);
    for (int i = 0; i < kSteps; ++i) losses.push_back(trainer.Step().losses.front());
    undisturbed = method->Export(0);
  }
  {
    const auto method = Attach(base_, {5});
    Trainer trainer(base_, *method, Slots(data, {50}), options_);
    while (trainer.steps() < 2) trainer.Step();
    trainer.SaveCheckpoint(path_, "run");
    for (int lost = 0; lost < 3; ++lost) trainer.Step();
  }
  {
    // Another process: other values and streams until the checkpoint is loaded.
    const auto method = Attach(base_, {77});
    Trainer trainer(base_, *method, Slots(data, {5000}), options_);
    ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run"));
    EXPECT_EQ(trainer.steps(), 2);
    while (trainer.steps() < 7) {
      const auto step = static_cast<size_t>(trainer.steps());
      EXPECT_EQ(trainer.Step().losses.front(), losses[step]);
    }
    trainer.SaveCheckpoint(path_, "run");
    trainer.Step();
  }
  const auto method = Attach(base_, {78});
  Trainer trainer(base_, *method, Slots(data, {6000}), options_);
  ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run"));
  EXPECT_EQ(trainer.steps(), 7);
  while (trainer.steps() < kSteps) trainer.Step();
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, undisturbed.at(name))) << name;
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
  {
    const auto method = Attach(base_, {5});
    Trainer trainer(base_, *method, Slots(data, {50}), options);
    for (int i = 0; i < 3; ++i) trainer.Step();
    trainer.SaveCheckpoint(path_, "run");
    for (int i = 0; i < 3; ++i) trainer.Step();
    trainer.SwapAverage();
    undisturbed = method->Export(0);
  }
  const auto method = Attach(base_, {6});
  Trainer trainer(base_, *method, Slots(data, {60}), options);
  ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run"));
  for (int i = 0; i < 3; ++i) trainer.Step();
  const auto trained = method->Export(0);
  trainer.SwapAverage();
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, undisturbed.at(name))) << name;
  trainer.SwapAverage();
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, trained.at(name))) << name;
}

// A source that gives the same two rows for ever: two accumulated batches of it are the mean of the two losses.
TEST_F(TrainerTest, AccumulatedGradientsAreAveraged) {
  const auto data = MakeSmallData(false);
  TrainOptions accumulate = options_;
  accumulate.accumulation = 2;
  const auto method = Attach(base_, {5});
  Trainer twice(base_, *method, Slots(data, {50}), accumulate);
  const double mean = twice.Step().losses.front();
  BaseModel base = MakeSmallBase();
  const auto again = Attach(base, {5});
  TrainOptions still = options_;
  still.optimizer.learning_rate = 0;
  Trainer once(base, *again, Slots(data, {50}), still);
  const double first = once.Step().losses.front(), second = once.Step().losses.front();
  EXPECT_NEAR(mean, (first + second) / 2, 1e-6);
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
  auto data = std::make_shared<CaptionedPictures>();
  data->latents = torch::arange(5, torch::kFloat32).view({5, 1, 1, 1}).clone();
  data->contexts = torch::stack({torch::full({1, 2}, 1.), torch::full({1, 2}, 2.)});
  data->caption_of = torch::tensor({0, 1, 0, 1, 0}, torch::kInt64);
  data->empty_context = torch::zeros({1, 1, 2});
  data->caption_dropout = 0.25;
  const auto source = MakeCaptionedSource(data, 5, {1, 2, 3});
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
  Trainer trainer(base_, *method, Slots(data, {50}), options_);
  EXPECT_FALSE(trainer.LoadCheckpoint(path_, "run")) << "there is none";
  trainer.Step();
  trainer.SaveCheckpoint(path_, "run");
  EXPECT_FALSE(trainer.LoadCheckpoint(path_, "another run"));
  std::filesystem::resize_file(path_, 100);
  EXPECT_FALSE(trainer.LoadCheckpoint(path_, "run")) << "a torn file is no checkpoint";
  EXPECT_EQ(trainer.steps(), 1);
}

TEST_F(TrainerTest, ALossThatIsNotFiniteTakesNoStep) {
  auto data = std::make_shared<DreamBoothData>(*MakeSmallData(false));
  data->instance.latents = data->instance.latents.clone().fill_(std::numeric_limits<float>::quiet_NaN());
  data->instance.mirrored = data->instance.latents;
  const auto method = Attach(base_, {5});
  const auto before = method->Export(0);
  Trainer trainer(base_, *method, Slots(data, {50}), options_);
  EXPECT_TRUE(std::isnan(trainer.Step().losses.front()));
  EXPECT_EQ(trainer.steps(), 0);
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, before.at(name)));
}

// The same kernels on the same numbers; only the order in which gradients of one tensor are added up may differ: float32
// rounding, relative to the gradient's length. (Trained values would not do: AdamW turns the rounding of a gradient near 0
// into a whole step.)
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
      const Settings settings = CellSettings({{"method.input", input}, {"method.output", output}});
      const auto method = MakeMethod(TappableBlocksIn(*base_.unet), {{settings, 5}}, torch::kCPU);
      const RecomputeScope scope(recompute);
      const auto loss = torch::mse_loss(base_.unet(x, at, context), target);
      loss.backward();
      losses.push_back(loss.item<double>());
      for (const NamedParameter& parameter : method->parameters()) {
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
    Trainer trainer(base_, *method, Slots(data, {50}), options);
    double loss = 0;
    for (int i = 0; i < 4; ++i) loss = trainer.Step().losses.front();
    losses.push_back(loss);
    for (const NamedParameter& parameter : method->parameters()) {
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
    Trainer trainer(base_, *plain, Slots(data, {50}), options_);
    for (int i = 0; i < 3; ++i) trainer.Step();
    expected = plain->Export(0);
  }
  BaseModel scaled = MakeSmallBase();
  const auto method = Attach(scaled, {5});
  TrainOptions options = options_;
  options.loss_scale = 65536;
  Trainer trainer(scaled, *method, Slots(data, {50}), options);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(trainer.Step().skipped);
  // A power of two is exact in float32.
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, expected.at(name))) << name;
}

TEST_F(TrainerTest, OverflowedStepsAreSkippedAndHalveTheScaleAlsoAfterAResume) {
  const auto data = MakeSmallData(true);
  const auto method = Attach(base_, {5});
  const auto before = method->Export(0);
  TrainOptions options = options_;
  options.loss_scale = 0x1p+140;  // beyond float32
  Trainer trainer(base_, *method, Slots(data, {50}), options);
  ASSERT_TRUE(trainer.Step().skipped);
  EXPECT_EQ(trainer.steps(), 0);
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, before.at(name))) << name;
  int skipped = 1;
  while (trainer.steps() < 1) {
    skipped += trainer.Step().skipped ? 1 : 0;
    ASSERT_LT(skipped, 100);
  }
  trainer.SaveCheckpoint(path_, "run");
  const auto next = trainer.Step();
  const auto expected = method->Export(0);
  BaseModel base = MakeSmallBase();
  const auto again = Attach(base, {77});
  Trainer resumed(base, *again, Slots(data, {5000}), options);
  ASSERT_TRUE(resumed.LoadCheckpoint(path_, "run"));
  const auto step = resumed.Step();
  EXPECT_FALSE(step.skipped) << "goes on with the scale that was found";
  EXPECT_EQ(step.losses.front(), next.losses.front());
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

TEST_F(TrainerTest, APackOfTwoTrainsAsTwoSoloRuns) {
  const auto data = MakeSmallData(true);
  std::vector<std::map<std::string, torch::Tensor>> solo;
  std::vector<double> solo_losses;
  for (const uint64_t seed : {5, 6}) {
    const auto method = Attach(base_, {seed});
    Trainer trainer(base_, *method, Slots(data, {10 * seed}), options_);
    for (int i = 0; i < 5; ++i) {
      const double loss = trainer.Step().losses.front();
      if (i == 4) solo_losses.push_back(loss);
    }
    solo.push_back(method->Export(0));
  }
  const auto pack = Attach(base_, {5, 6});
  Trainer trainer(base_, *pack, Slots(data, {50, 60}), options_);
  std::vector<double> losses;
  for (int i = 0; i < 5; ++i) losses = trainer.Step().losses;
  for (int64_t k = 0; k < 2; ++k) {
    const auto slot = static_cast<size_t>(k);
    // Batched kernels add in another order: rounding of float32, five steps long.
    EXPECT_NEAR(losses[slot], solo_losses[slot], 1e-4);
    for (const auto& [name, value] : pack->Export(k)) {
      EXPECT_LT((value - solo[slot].at(name)).abs().mean().item<double>(), 1e-4) << "slot " << k << " " << name;
    }
  }
}

}  // namespace
}  // namespace loupe::worker
