// The same trials on a GPU. Skipped, with the reason, where there is none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>
#ifdef LOUPE_WITH_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

#include <cmath>

#include "common/atomic_file.h"
#include "tests/worker/executor/trial_fixture.h"
#include "tests/worker/methods/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/device.h"
#include "worker/train/trainer.h"

namespace loupe::worker::executor {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class GpuTest : public TrialTest {
 protected:
  static void SetUpTestSuite() {
    if (!torch::cuda::is_available()) return;
    MakeFolder("gpu_test");
    gpu_ = MakeExecutor("cuda", /*threads=*/0);
    cpu_ = MakeExecutor("cpu", /*threads=*/0);
  }
  static void TearDownTestSuite() {
    gpu_.reset();
    cpu_.reset();
    TrialTest::TearDownTestSuite();
  }
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU on this machine, or a LibTorch without CUDA";
    ASSERT_TRUE(gpu_ && cpu_);
  }

  // Runs a trial that must succeed.
  AttemptOutcome RunOn(Executor& executor, const AttemptSpec& spec, RecordingObserver& observer) {
    AttemptOutcome outcome = executor.Run(spec, observer);
    EXPECT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
    return outcome;
  }
  double LastLoss(const std::string& precision) {
    RecordingObserver observer(root_ + "/precision-" + precision);
    RunOn(*gpu_, Spec("precision-" + precision, {{"train.precision", precision}, {"budget.steps", "30"}}), observer);
    return observer.losses.empty() ? NAN : observer.losses.rbegin()->second;
  }

  inline static std::unique_ptr<Executor> gpu_, cpu_;
};

// Float32 on both sides, sums in another order: 1e-7 an operation. TF32, cuDNN's default for convolutions, would be
// 1e-3 off.
TEST_F(GpuTest, ANetworkPredictsWhatItPredictsOnACpu) {
  base::BaseModel base = train::MakeSmallBase();
  runtime::RandomStream stream(3);
  const auto latents = stream.Normal({4, 4, 8, 8}), context = stream.Normal({4, 5, 16});
  const auto timesteps = stream.Integers(1000, {4});
  torch::NoGradGuard no_grad;
  const auto expected = base.unet(latents, timesteps, context);
  base.unet->to(torch::kCUDA);
  const auto seen = base.unet(latents.cuda(), timesteps.cuda(), context.cuda()).cpu();
  EXPECT_LT(((seen - expected).norm() / expected.norm()).item<double>(), 1e-5);
}

TEST_F(GpuTest, ATrialsLossesAndScoresAreTheCpus) {
  RecordingObserver on_cpu(root_ + "/cpu"), on_gpu(root_ + "/gpu");
  const AttemptOutcome expected = RunOn(*cpu_, Spec("cpu"), on_cpu), seen = RunOn(*gpu_, Spec("gpu"), on_gpu);
  ASSERT_EQ(on_gpu.losses.size(), on_cpu.losses.size());
  // Class pictures are sampled on each device, and pass through 8 bits: a pixel rounded the other way is 1/255.
  for (const auto& [step, loss] : on_cpu.losses) EXPECT_NEAR(on_gpu.losses.at(step), loss, 1e-3 * loss) << step;
  for (const char* score : {"clip_i", "clip_i_base", "clip_t"}) {
    EXPECT_NEAR(seen.scores.at(score), expected.scores.at(score), 2e-3) << score;
  }
  EXPECT_THAT(seen.provenance.at("device"), StartsWith("cuda"));
}

TEST_F(GpuTest, ATrialEndsInTheSameBytesAgainAndAfterAStop) {
  RecordingObserver first(root_ + "/first"), again(root_ + "/again");
  RunOn(*gpu_, Spec("first"), first);
  RunOn(*gpu_, Spec("again"), again);
  RecordingObserver stopped(root_ + "/stopped", /*stop_at_step=*/2), resumed(root_ + "/resumed");
  EXPECT_EQ(gpu_->Run(Spec("resumed"), stopped).kind, AttemptOutcome::Kind::kStopped);
  RunOn(*gpu_, Spec("resumed"), resumed);
  EXPECT_EQ(resumed.losses.size(), 1u) << "only the third step is left";
  for (const char* file : {"adapter.safetensors", "embeddings.npy"}) {
    const std::string expected = *ReadFile(first.File(file));
    EXPECT_EQ(*ReadFile(again.File(file)), expected) << file;
    EXPECT_EQ(*ReadFile(resumed.File(file)), expected) << file;
  }
}

// Recorded by whole steps, repeated from the fourth on: of training, and of each batch of pictures.
TEST_F(GpuTest, GraphsGiveTheBytesOfTheirOperators) {
  const auto graphs = MakeExecutor("cuda", /*threads=*/0, /*graphs=*/true);
  ASSERT_TRUE(graphs);
  for (const char* precision : {"float32", "bf16", "fp16"}) {
    const std::map<std::string, std::string> cell = {
        {"train.precision", precision}, {"budget.steps", "12"}, {"sample.steps", "8"}};
    RecordingObserver plain(root_ + "/plain-" + precision), recorded(root_ + "/graphs-" + precision);
    RunOn(*gpu_, Spec(std::string("plain-") + precision, cell), plain);
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    RunOn(*graphs, Spec(std::string("graphs-") + precision, cell), recorded);
    const std::string log = ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
    EXPECT_THAT(log, ::testing::Not(HasSubstr("is not repeated from a recording"))) << precision;
    EXPECT_EQ(recorded.losses, plain.losses) << precision;
    for (const char* file : {"adapter.safetensors", "embeddings.npy"}) {
      EXPECT_EQ(*ReadFile(recorded.File(file)), *ReadFile(plain.File(file))) << precision << ' ' << file;
    }
  }
}

// 16 bits in the products: 8 of mantissa in bfloat16, 11 in float16, each step's luck of the draw being the same.
TEST_F(GpuTest, SixteenBitTrainingFollowsFloat32) {
  const double expected = LastLoss("float32");
  EXPECT_NEAR(LastLoss("bf16"), expected, 0.05 * expected);
  EXPECT_NEAR(LastLoss("fp16"), expected, 0.02 * expected);
}

TEST_F(GpuTest, BlocksComputedAgainGiveTheSameAdapter) {
  RecordingObserver kept(root_ + "/kept"), computed(root_ + "/computed");
  RunOn(*gpu_, Spec("kept"), kept);
  RunOn(*gpu_, Spec("computed", {{"train.gradient_checkpointing", "true"}}), computed);
  EXPECT_EQ(computed.losses.at(1), kept.losses.at(1));
  for (const auto& [step, loss] : kept.losses) EXPECT_NEAR(computed.losses.at(step), loss, 1e-5 * loss) << step;
}

// Real overflow: gradients of float16 activations at a scale of 2⁴⁰ are infinite, until it has come down.
TEST_F(GpuTest, ALossScaleThatOverflowsComesDownWithoutAStep) {
  base::BaseModel base = train::MakeSmallBase();
  base.unet->to(torch::kCUDA);
  auto data = std::make_shared<tasks::DreamBoothData>(*train::MakeSmallData(/*prior=*/false));
  for (torch::Tensor* tensor : {&data->instance.latents, &data->instance.mirrored, &data->instance.context}) {
    *tensor = tensor->cuda();
  }
  const auto method = methods::MakeMethod(nn::SitesIn(*base.unet), {{methods::CellSettings({}), 5}}, torch::kCUDA);
  train::TrainOptions options{.optimizer = {.learning_rate = 1e-2}, .precision = torch::kHalf, .loss_scale = 0x1p+40};
  std::vector<train::TrainSlot> slots;
  slots.push_back(
      {tasks::MakeDreamBoothSource(data, 2, {1, 2, 3}), runtime::RandomStream(4), runtime::RandomStream(5), options});
  train::Trainer trainer(base, *method, std::move(slots));
  const auto before = method->Export(0);
  EXPECT_EQ(trainer.Step().front().kind, train::SlotStep::Kind::kSkipped);
  EXPECT_EQ(trainer.steps(), 0);
  for (const auto& [name, value] : method->Export(0)) EXPECT_TRUE(torch::equal(value, before.at(name))) << name;
  int tries = 0;
  while (trainer.steps() < 3 && tries < 60) {
    EXPECT_TRUE(std::isfinite(trainer.Step().front().loss));
    ++tries;
  }
  EXPECT_EQ(trainer.steps(), 3);
  EXPECT_GT(tries, 5) << "2⁴⁰ is far above what float16 bears";
}

#ifdef LOUPE_WITH_CUDA
// A GPU as small as one likes: LibTorch is told to take no more than a part of it.
TEST_F(GpuTest, ABatchThatDoesNotFitIsARetryableFailureThatSaysWhatNeedsLess) {
  c10::cuda::CUDACachingAllocator::emptyCache();
  c10::cuda::CUDACachingAllocator::setMemoryFraction(0.01, 0);
  RecordingObserver observer(root_ + "/memory");
  const AttemptOutcome outcome = gpu_->Run(Spec("memory", {{"budget.batch", "512"}}), observer);
  c10::cuda::CUDACachingAllocator::setMemoryFraction(1, 0);
  EXPECT_EQ(outcome.kind, AttemptOutcome::Kind::kFailure);
  EXPECT_EQ(outcome.failure_class, FailureClass::kRetryable);
  EXPECT_THAT(outcome.failure_message, HasSubstr("out of memory on the GPU"));
  EXPECT_THAT(outcome.failure_message, HasSubstr("a smaller budget.batch"));
  RecordingObserver next(root_ + "/after-memory");
  RunOn(*gpu_, Spec("after-memory"), next);
}
#endif

TEST_F(GpuTest, ItsNameIsShownAndNumbersBeyondTheLastAreRefused) {
  EXPECT_THAT(gpu_->DeviceDescription(), StartsWith("cuda:0 "));
  EXPECT_GT(gpu_->DeviceDescription().size(), std::string("cuda:0 ").size());
  EXPECT_THAT(std::string(runtime::ParseDevice("cuda:99").status().message()), HasSubstr("GPUs that can be used"));
}

}  // namespace
}  // namespace loupe::worker::executor
