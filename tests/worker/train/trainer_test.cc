// Training steps against the same arithmetic written out, and resumption bit for bit.
#include "worker/train/trainer.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/worker/adapters/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/adapters/method_registry.h"
#include "worker/layers/tappable.h"

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
  // (checkpoint after this many steps, steps run beyond it before the kill)
  for (const auto& [saved_at, lost] : {std::pair{2, 3}, {7, 1}}) {
    const auto method = Attach(base_, {77});  // another process: other initial values until the checkpoint is loaded
    Trainer trainer(base_, *method, Slots(data, {5000}), options_);
    if (saved_at == 2) {
      const auto fresh = Attach(*std::make_unique<BaseModel>(MakeSmallBase()), {5});
      method->Import(0, fresh->Export(0));
      Trainer first(base_, *method, Slots(data, {50}), options_);
      while (first.steps() < saved_at) first.Step();
      first.SaveCheckpoint(path_, "run");
      for (int i = 0; i < lost; ++i) first.Step();
      continue;
    }
    ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run"));
    while (trainer.steps() < saved_at) {
      const auto step = static_cast<size_t>(trainer.steps());
      EXPECT_EQ(trainer.Step().losses.front(), losses[step]);
    }
    trainer.SaveCheckpoint(path_, "run");
    for (int i = 0; i < lost; ++i) trainer.Step();
  }
  const auto method = Attach(base_, {78});
  Trainer trainer(base_, *method, Slots(data, {6000}), options_);
  ASSERT_TRUE(trainer.LoadCheckpoint(path_, "run"));
  EXPECT_EQ(trainer.steps(), 7);
  while (trainer.steps() < kSteps) trainer.Step();
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, undisturbed.at(name))) << name;
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
