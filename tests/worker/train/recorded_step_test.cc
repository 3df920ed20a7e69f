// Training and sampling steps that are repeated from recordings, against the same steps operator by operator: on a CPU,
// by a recorder that repeats as a GPU's graphs do.
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "tests/testing/class_base.h"
#include "tests/testing/tape_recorder.h"
#include "tests/worker/methods/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/recorded_call.h"
#include "worker/sampling/picture_sampler.h"
#include "worker/train/trainer.h"

namespace loupe::worker::train {
namespace {

// Before anything asks how wide this processor's vectors are.
[[maybe_unused]] const int operators_alone = setenv("ATEN_CPU_CAPABILITY", "default", 1);

using runtime::RecordedCall;
using testing::TapeRecorder;
using Cell = std::map<std::string, std::string>;

torch::Tensor Row(const std::vector<float>& values) { return torch::tensor(values); }

TEST(RecordedCallTest, IsRepeatedFromTheFourthCallOnWithThatCallsInputs) {
  TapeRecorder recorder;
  RecordedCall call(&recorder, "a sum");
  const torch::Tensor total = torch::zeros({2});
  int64_t calls = 0;
  float sum = 0;
  for (int i = 1; i <= 6; ++i) {
    sum += static_cast<float>(i);
    const auto x = Row({1.0F * static_cast<float>(i), 10.0F * static_cast<float>(i)});
    const auto result = call("", {x}, {total}, [&](const RecordedCall::Tensors& in) -> RecordedCall::Tensors {
      ++calls;
      total.add_(in[0]);
      return {total * 2};
    });
    EXPECT_TRUE(torch::equal(result[0], total * 2)) << i;
    EXPECT_EQ(total[0].item<float>(), sum) << i;
  }
  EXPECT_EQ(calls, 4) << "its own three, and the one that was recorded";
  EXPECT_EQ(recorder.replays(), 4) << "beside the third, and instead of three";
  EXPECT_TRUE(call.records());
}

TEST(RecordedCallTest, ANumberOfTheCallIsNoticedAndNothingIsRepeated) {
  TapeRecorder recorder;
  RecordedCall call(&recorder, "a product");
  for (int i = 1; i <= 5; ++i) {
    const auto result = call("", {Row({1, 2})}, {},
                             [&](const RecordedCall::Tensors& in) -> RecordedCall::Tensors { return {in[0] * i}; });
    EXPECT_TRUE(torch::equal(result[0], Row({1, 2}) * i)) << i;
  }
  EXPECT_FALSE(call.records());
  EXPECT_EQ(recorder.replays(), 1);
}

TEST(RecordedCallTest, AValueThatIsReadBackCannotBeRecorded) {
  TapeRecorder recorder;
  RecordedCall call(&recorder, "a choice");
  const torch::Tensor count = torch::zeros({1});
  for (int i = 1; i <= 5; ++i) {
    const auto result = call("", {Row({static_cast<float>(i)})}, {count},
                             [&](const RecordedCall::Tensors& in) -> RecordedCall::Tensors {
                               count.add_(1);
                               return {in[0].item<float>() > 2 ? in[0] : -in[0]};
                             });
    EXPECT_EQ(result[0].item<float>(), static_cast<float>(i > 2 ? i : -i));
    EXPECT_EQ(count.item<float>(), static_cast<float>(i)) << "a call counts once, also the one that was given up";
  }
  EXPECT_FALSE(call.records());
}

TEST(RecordedCallTest, ARecordingThatLacksSomethingIsNotUsed) {
  TapeRecorder recorder;
  recorder.Damage();
  RecordedCall call(&recorder, "a sum");
  const torch::Tensor total = torch::zeros({1});
  for (int i = 1; i <= 5; ++i) {
    call("", {Row({1})}, {total}, [&](const RecordedCall::Tensors& in) -> RecordedCall::Tensors {
      const torch::Tensor result = in[0] * 2;
      total.add_(result);
      return {result};
    });
    EXPECT_EQ(total.item<float>(), static_cast<float>(2 * i));
  }
  EXPECT_FALSE(call.records());
}

TEST(RecordedCallTest, OtherShapesOrAnotherKeyBeginAnew) {
  TapeRecorder recorder;
  RecordedCall call(&recorder, "a sum");
  const auto times = [&](const std::string& key, const torch::Tensor& x, int count) {
    for (int i = 0; i < count; ++i) {
      const auto sum = call(key, {x + i}, {},
                            [](const RecordedCall::Tensors& in) -> RecordedCall::Tensors { return {in[0].sum()}; });
      EXPECT_EQ(sum[0].item<float>(), (x + i).sum().item<float>());
    }
  };
  times("a", torch::ones({3}), 5);
  EXPECT_EQ(recorder.recordings(), 1);
  times("a", torch::ones({4}), 5);
  EXPECT_EQ(recorder.recordings(), 2);
  times("b", torch::ones({4}), 5);
  EXPECT_EQ(recorder.recordings(), 3);
  EXPECT_TRUE(call.records());
}

TEST(RecordedCallTest, AfterAnExceptionTheCallIsMadeOnceMore) {
  TapeRecorder recorder;
  RecordedCall call(&recorder, "a sum");
  const torch::Tensor total = torch::zeros({1});
  int64_t made = 0;
  for (const bool fails : {true, false, true, false, true, false, false}) {
    const auto sum = [&](const RecordedCall::Tensors& in) -> RecordedCall::Tensors {
      total.add_(in[0]);
      if (fails) throw std::runtime_error("no memory");
      return {total + 0};
    };
    if (fails) {
      EXPECT_THROW(call("", {Row({1})}, {total}, sum), std::runtime_error);
    } else {
      call("", {Row({1})}, {total}, sum);
      ++made;
    }
    EXPECT_EQ(total.item<float>(), static_cast<float>(made));
  }
  EXPECT_TRUE(call.records());
}

// As where memory runs out while the rows are put together.
class BreakingSource : public BatchSource {
 public:
  BreakingSource(std::unique_ptr<BatchSource> source, const bool& broken)
      : source_(std::move(source)), broken_(broken) {}

  int64_t batch_size() const override { return source_->batch_size(); }
  Batch Next() override {
    Batch batch = source_->Next();
    if (broken_) throw std::runtime_error("no memory for the rows");
    return batch;
  }
  TensorMap Save() const override { return source_->Save(); }
  void Restore(const TensorMap& state) override { source_->Restore(state); }

 private:
  const std::unique_ptr<BatchSource> source_;
  const bool& broken_;
};

// Trials of a pack, as of one replicate: the same batches, noise and timesteps.
class RecordedStepTest : public ::testing::Test {
 protected:
  RecordedStepTest() : data_(MakeSmallData(/*prior=*/true)) {
    at::set_num_threads(1);
    path_ = ::testing::TempDir() + "recorded_step_test.safetensors";
  }

  struct Run {
    std::vector<SlotStep> steps;
    std::string checkpoints;
  };
  base::BaseModel Base(TapeRecorder* recorder) {
    base::BaseModel base = make_base_();
    if (recorder != nullptr) base.recorder = std::shared_ptr<runtime::Recorder>(recorder, [](runtime::Recorder*) {});
    return base;
  }

  std::vector<TrainSlot> SlotsOf(size_t count, const TrainOptions& options, const bool* broken = nullptr) {
    std::vector<TrainSlot> slots;
    for (size_t i = 0; i < count; ++i) {
      slots.push_back({tasks::MakeDreamBoothSource(data_, 2, {1, 2, 3}), runtime::RandomStream(4),
                       runtime::RandomStream(5), options});
      slots.back().options.optimizer.learning_rate *= 1 + 0.1 * static_cast<double>(i);
      auto& source = slots.back().source;
      if (broken != nullptr) source = std::make_unique<BreakingSource>(std::move(source), *broken);
    }
    return slots;
  }

  static Trainer::MethodFactory FactoryOf(const base::BaseModel& base, const std::vector<Cell>& cells) {
    return [&base, cells](const std::vector<size_t>& members) {
      std::vector<methods::SlotOptions> its;
      its.reserve(members.size());
      for (const size_t i : members) its.push_back({methods::MethodSettings(cells[i]), 7 * (i + 1)});
      return methods::MakeMethod(nn::SitesIn(base.denoiser->network()), its, torch::kCPU);
    };
  }

  // The checkpoint of a single trial's Train, after so many steps more.
  std::string GoneOn(const TrainOptions& options, TapeRecorder* recorder, int64_t steps) {
    base::BaseModel base = Base(recorder);
    Trainer trainer(base, FactoryOf(base, {adapter_}), SlotsOf(1, options));
    EXPECT_TRUE(trainer.LoadCheckpoint(path_, "run"));
    for (int64_t step = 0; step < steps; ++step) trainer.Step();
    trainer.SaveCheckpoint(path_, "run");
    return *ReadFile(path_);
  }

  // `cells` share one pass of so many slots; one of them leaves after `leaves` steps.
  Run Train(const std::vector<Cell>& cells, const TrainOptions& options, TapeRecorder* recorder, int64_t steps = 7,
            int64_t width = 0, int64_t leaves = -1) {
    base::BaseModel base = Base(recorder);
    Trainer trainer(base, FactoryOf(base, cells), SlotsOf(cells.size(), options));
    std::vector<size_t> all(cells.size());
    std::iota(all.begin(), all.end(), 0);
    trainer.Regroup({{.slots = all, .width = width}});
    Run run;
    for (int64_t step = 0; step < steps; ++step) {
      if (step == leaves) trainer.Leave(cells.size() - 1);
      for (const SlotStep& one : trainer.Step()) run.steps.push_back(one);
    }
    for (size_t i = 0; i < cells.size(); ++i) {
      trainer.SaveCheckpoint(path_, "run", i);
      run.checkpoints += *ReadFile(path_);
    }
    return run;
  }

  void ExpectSame(const std::vector<Cell>& cells, const TrainOptions& options, int64_t steps = 7, int64_t width = 0,
                  int64_t leaves = -1) {
    TapeRecorder recorder;
    const Run plain = Train(cells, options, nullptr, steps, width, leaves);
    const Run recorded = Train(cells, options, &recorder, steps, width, leaves);
    ASSERT_EQ(plain.steps.size(), recorded.steps.size());
    for (size_t i = 0; i < plain.steps.size(); ++i) {
      EXPECT_EQ(plain.steps[i].kind, recorded.steps[i].kind) << i;
      EXPECT_EQ(plain.steps[i].running_error, recorded.steps[i].running_error) << i;
      EXPECT_EQ(plain.steps[i].gradient_norm, recorded.steps[i].gradient_norm) << i;
      EXPECT_TRUE(plain.steps[i].loss == recorded.steps[i].loss ||
                  (std::isnan(plain.steps[i].loss) && std::isnan(recorded.steps[i].loss)))
          << i;
    }
    EXPECT_TRUE(plain.checkpoints == recorded.checkpoints);
    const int64_t begun = leaves < 0 ? 1 : 2;
    EXPECT_EQ(recorder.recordings(), begun);
    EXPECT_EQ(recorder.replays(), steps - 2 * begun) << "all steps but the first two of each recording";
  }

  std::function<base::BaseModel()> make_base_ = [] { return MakeSmallBase(); };
  std::shared_ptr<const tasks::DreamBoothData> data_;
  const Cell adapter_ = {{"method.input", "CA_out"}, {"method.output", "FFN_in"}, {"method.width", "4"}};
  const TrainOptions options_ = {.optimizer = {.learning_rate = 1e-2}};
  std::string path_;
};

TEST_F(RecordedStepTest, AnAdaptersStepsAreTheSameBytes) { ExpectSame({adapter_}, options_); }

TEST_F(RecordedStepTest, WithAScheduleClippingAveragingAndTwoBatchesToAStep) {
  TrainOptions options = options_;
  options.optimizer.clip_norm = 0.01;
  options.schedule = {.warmup_steps = 2, .cosine = true, .total_steps = 7};
  options.accumulation = 2;
  options.ema_decay = 0.9;
  options.min_snr_gamma = 5;
  options.noise_offset = 0.1;
  ExpectSame({adapter_}, options);
}

TEST_F(RecordedStepTest, ScaledLossesThatOverflowAtFirst) {
  TrainOptions options = options_;
  options.loss_scale = 0x1p+132;
  ExpectSame({{{"method.kind", "lora"}, {"method.rank", "2"}}}, options, 14);
}

TEST_F(RecordedStepTest, InSixteenBits) {
  TrainOptions options = options_;
  options.precision = torch::kBFloat16;
  ExpectSame({adapter_}, options);
}

TEST_F(RecordedStepTest, WithBlocksThatAreComputedAgain) {
  TrainOptions options = options_;
  options.recompute = true;
  ExpectSame({adapter_}, options);
}

TEST_F(RecordedStepTest, OfEveryMethodThatTrainsTheDenoiser) {
  for (const methods::MethodTraits& method : methods::Methods()) {
    Cell cell = {{"method.kind", method.name}};
    if (method.name == "file") continue;  // trains nothing
    if (method.name == "adapter") cell = adapter_;
    if (method.trains_conditioner(methods::MethodSettings(cell))) continue;
    SCOPED_TRACE(method.name);
    ExpectSame({cell}, options_, 5);
  }
}

// Whose predicted variance is trained, too.
TEST_F(RecordedStepTest, OfTransformersAndStateSpaces) {
  runtime::RandomStream stream(13);
  auto data = std::make_shared<tasks::DreamBoothData>();
  data->instance = {stream.Normal({3, 4, 16, 16}), stream.Normal({3, 4, 16, 16}), torch::ones({1, 1}, torch::kInt64)};
  data_ = data;
  TrainOptions options = options_;
  options.vlb_weight = 0.001;
  for (const io::BaseKind kind : {io::BaseKind::kDiT, io::BaseKind::kDiffuSSM}) {
    const std::string folder = ::testing::TempDir() + "recorded_step_base";
    std::filesystem::remove_all(folder);
    WriteClassBase(folder, kind, R"({"0": "cat", "1": "dog"})", 2);
    make_base_ = [&] { return *base::LoadBase(folder); };
    if (!make_base_().denoiser->PredictsVariance()) options.vlb_weight = 0;
    for (const char* method : {"bitfit", "full"}) {
      SCOPED_TRACE(io::DenoiserFolder(kind));
      ExpectSame({{{"method.kind", method}}}, options, 5);
    }
    std::filesystem::remove_all(folder);
  }
}

TEST_F(RecordedStepTest, APacksOfWhichOneLeaves) {
  Cell other = adapter_;
  other["method.scale"] = "2";
  Cell third = adapter_;
  third["method.input"] = "SA_in";
  ExpectSame({adapter_, other, third}, options_, 11, /*width=*/4, /*leaves=*/5);
}

TEST_F(RecordedStepTest, WithDropoutAlsoInBlocksThatAreComputedAgain) {
  const Cell lora = {{"method.kind", "lora"}, {"method.rank", "2"}, {"method.dropout", "0.2"}};
  Cell other = lora;
  other["method.dropout"] = "0.5";
  TrainOptions options = options_;
  options.accumulation = 2;
  ExpectSame({lora, other}, options, 7, /*width=*/3);
  options.recompute = true;
  ExpectSame({lora}, options);
}

TEST_F(RecordedStepTest, ALossThatIsNotFiniteTakesNoStep) {
  TrainOptions options = options_;
  options.optimizer.epsilon = 0;  // AdamW then divides 0 by 0 where a gradient is 0
  Cell zero = adapter_;
  zero["method.init"] = "zero";
  TapeRecorder recorder;
  const Run plain = Train({zero}, options, nullptr), recorded = Train({zero}, options, &recorder);
  ASSERT_EQ(plain.steps.back().kind, SlotStep::Kind::kFailed);
  for (size_t i = 0; i < plain.steps.size(); ++i) EXPECT_EQ(plain.steps[i].kind, recorded.steps[i].kind) << i;
  EXPECT_GT(recorder.replays(), 1);
}

// While a device is at a step the next one's rows are drawn: no checkpoint knows of them.
TEST_F(RecordedStepTest, ACheckpointOfAnyStepGoesOnOperatorByOperator) {
  TrainOptions options = options_;
  options.accumulation = 2;
  const std::string whole = Train({adapter_}, options, nullptr, 8).checkpoints;
  for (const int64_t saved_at : {1, 3, 6}) {
    TapeRecorder recorder;
    Train({adapter_}, options, &recorder, saved_at);
    EXPECT_TRUE(GoneOn(options, nullptr, 8 - saved_at) == whole) << saved_at;
    Train({adapter_}, options, nullptr, saved_at);
    TapeRecorder other;
    EXPECT_TRUE(GoneOn(options, &other, 8 - saved_at) == whole) << saved_at;
  }
}

// Those drawn ahead do not end the step under way; the next one says what is wrong with them, and can be taken later.
TEST_F(RecordedStepTest, AStepWhoseRowsCannotBeDrawnIsTakenOnceMore) {
  const std::string of_three = Train({adapter_}, options_, nullptr, 3).checkpoints;
  const std::string of_eight = Train({adapter_}, options_, nullptr, 8).checkpoints;
  TapeRecorder recorder;
  for (TapeRecorder* const draws_ahead : {&recorder, static_cast<TapeRecorder*>(nullptr)}) {
    base::BaseModel base = Base(draws_ahead);
    bool broken = false;
    Trainer trainer(base, FactoryOf(base, {adapter_}), SlotsOf(1, options_, &broken));
    while (trainer.steps() < 3) {
      broken = draws_ahead != nullptr && trainer.steps() == 2;  // the fourth step's rows
      EXPECT_EQ(trainer.Step()[0].kind, SlotStep::Kind::kStepped);
    }
    broken = true;
    EXPECT_THROW(trainer.Step(), std::runtime_error);
    trainer.SaveCheckpoint(path_, "run");
    EXPECT_TRUE(*ReadFile(path_) == of_three);
    broken = false;
    while (trainer.steps() < 8) trainer.Step();
    trainer.SaveCheckpoint(path_, "run");
    EXPECT_TRUE(*ReadFile(path_) == of_eight);
  }
}

TEST_F(RecordedStepTest, SampledLatentsAreTheSameBytes) {
  for (const double guidance : {1.0, 4.0}) {
    base::BaseModel base = MakeSmallBase();
    runtime::RandomStream stream(31);
    const auto noise = stream.Normal({3, 4, 8, 8}), context = stream.Normal({3, 5, 16});
    const auto sample = [&](sampling::ConditionedDenoiser::Halves halves, runtime::Recorder* recorder) {
      torch::NoGradGuard no_grad;
      const torch::Tensor rows = guidance == 1 ? context : torch::cat({torch::zeros_like(context), context});
      sampling::ConditionedDenoiser denoiser(*base.denoiser, rows, guidance != 1, 1, halves);
      RecordedCall call(recorder, "a sampling step");
      const auto sampler = sampling::MakeSampler(sampling::SamplerKind::kDdim, base.schedule, 8);
      const sampling::NoisePredictor network = [&](const torch::Tensor& x, int64_t timestep) {
        return call("", {x, denoiser.StepsOf(x, timestep)}, {},
                    [&](const RecordedCall::Tensors& in) -> RecordedCall::Tensors {
                      return {denoiser.At(in[0], in[1])};
                    })
            .front();
      };
      return sampling::RunSampler(*sampler, noise,
                                  guidance == 1 ? network : sampling::WithGuidance(network, guidance, 0));
    };
    for (const auto halves :
         {sampling::ConditionedDenoiser::Halves::kPasses, sampling::ConditionedDenoiser::Halves::kOnePass}) {
      TapeRecorder recorder;
      EXPECT_TRUE(torch::equal(sample(halves, nullptr), sample(halves, &recorder)));
      EXPECT_EQ(recorder.replays(), 6);
    }
  }
}

}  // namespace
}  // namespace loupe::worker::train
