// Whole trials on the built-in base, with budgets of a few steps.
#include "worker/executor/trial_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "analysis/metrics/cosine_similarity.h"
#include "analysis/metrics/npy_file.h"
#include "common/atomic_file.h"
#include "worker/data/emoji_renderer.h"
#include "worker/data/emoji_set.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Keeps copies of artifacts; can tell the attempt to stop at a step.
class RecordingObserver : public AttemptObserver {
 public:
  explicit RecordingObserver(std::string folder, int64_t stop_at_step = -1)
      : folder_(std::move(folder)), stop_at_step_(stop_at_step) {
    fs::create_directories(folder_);
  }
  void OnProgress(std::string_view phase, int64_t step, int64_t) override {
    phases.emplace(phase);
    if (phase == "train" && step == stop_at_step_) stop_ = true;
  }
  void OnMetric(std::string_view metric, int64_t step, double value) override {
    if (metric == "loss") losses[step] = value;
    metrics.emplace(metric);
  }
  absl::Status OnArtifact(std::string_view name, std::string_view, const std::string& path) override {
    fs::copy_file(path, fs::path(folder_) / name, fs::copy_options::overwrite_existing);
    return absl::OkStatus();
  }
  bool ShouldStop() const override { return stop_; }
  std::string File(const std::string& name) const { return folder_ + "/" + name; }

  std::set<std::string> phases, metrics;
  std::map<int64_t, double> losses;

 private:
  const std::string folder_;
  const int64_t stop_at_step_;
  bool stop_ = false;
};

class TrialExecutorTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    root_ = testing::TempDir() + "trial_executor_test";
    fs::remove_all(root_);
    const auto items = ReadEmojiItems("configs/bases/emoji-sd/items.json");
    ASSERT_TRUE(items.ok()) << items.status();
    const auto cats = SelectEmojiFamily(*items, "cat-faces");
    ASSERT_TRUE(cats.ok());
    const auto count = RenderEmoji(*cats, {.font_path = kNotoColorEmojiPath, .out_folder = root_ + "/cats", .side = 64});
    ASSERT_TRUE(count.ok()) << count.status();
    ASSERT_EQ(*count, 9);
    auto executor = MakeTrialExecutor({.device = "cpu", .threads = 1, .cache_folder = root_ + "/cache"});
    ASSERT_TRUE(executor.ok()) << executor.status();
    executor_ = executor->release();
  }
  static void TearDownTestSuite() {
    delete executor_;
    fs::remove_all(root_);
  }

  AttemptSpec Spec(const std::string& name, std::map<std::string, std::string> changes = {}) {
    std::map<std::string, std::string> values = {{"base", "configs/bases/emoji-sd"},
                                                 {"scorer", "configs/scorers/emoji-clip"},
                                                 {"task.images", root_ + "/cats"},
                                                 {"method.input", "CA_out"},
                                                 {"method.output", "FFN_in"},
                                                 {"method.width", "4"},
                                                 {"budget.steps", "3"},
                                                 {"budget.batch", "1"},
                                                 {"budget.samples", "4"},
                                                 {"sample.steps", "2"},
                                                 {"train.learning_rate", "0.01"}};
    for (const auto& [key, value] : changes) values[key] = value;
    if (values["task.kind"] != "finetune") {
      values["task.instance_prompt"] = "a photo of sks";
      values["task.class_prompt"] = "a photo of cat face";
      values["task.class_images"] = "2";
    }
    if (values["task.kind"].empty()) values.erase("task.kind");
    AttemptSpec spec;
    spec.trial = "sweeps/s/trials/0";
    spec.settings = *Settings::Create(values);
    spec.sweep_seed = 7;
    spec.cell = {{"input", "CA_out"}};
    spec.scratch_folder = root_ + "/scratch-" + name;
    spec.checkpoint_folder = root_ + "/checkpoint-" + name;
    fs::create_directories(spec.scratch_folder);
    fs::create_directories(spec.checkpoint_folder);
    return spec;
  }

  static std::string root_;
  static Executor* executor_;
};
std::string TrialExecutorTest::root_;
Executor* TrialExecutorTest::executor_ = nullptr;

TEST_F(TrialExecutorTest, ATrialEndsWithScoresThatCanBeRecomputedFromItsArtifacts) {
  RecordingObserver observer(root_ + "/whole");
  const AttemptOutcome outcome = executor_->Run(Spec("whole", {{"score.prior_samples", "2"}}), observer);
  ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
  for (const char* name : {"clip_i", "clip_t", "clip_fid", "clip_kid", "clip_fid_class", "clip_kid_class"}) {
    EXPECT_TRUE(outcome.scores.contains(name)) << name;
    EXPECT_TRUE(outcome.scores.contains(std::string(name) + "_base")) << name;
  }
  EXPECT_TRUE(outcome.scores.contains("clip_pres"));
  EXPECT_GT(outcome.scores.at("noise_difference"), 0);
  const auto generated = analysis::ReadNpyFile(observer.File("embeddings.npy"));
  const auto base = analysis::ReadNpyFile(observer.File("embeddings-base.npy"));
  const auto subject = analysis::ReadNpyFile(observer.File("embeddings-subject.npy"));
  ASSERT_TRUE(generated.ok() && base.ok() && subject.ok());
  EXPECT_EQ(generated->rows, 4);
  EXPECT_EQ(subject->rows, 9);
  EXPECT_EQ(*analysis::MeanPairwiseCosine(*generated, *subject), outcome.scores.at("clip_i"));
  EXPECT_EQ(*analysis::MeanPairwiseCosine(*base, *subject), outcome.scores.at("clip_i_base"));
  EXPECT_TRUE(fs::exists(observer.File("samples.png")));
  EXPECT_EQ(observer.losses.size(), 3u);
  EXPECT_THAT(observer.phases, testing::IsSupersetOf({"prepare", "train", "sample", "score"}));
  EXPECT_EQ(outcome.provenance.at("trainable_parameters").empty(), false);
}

// Stopped after the second step and run again from its checkpoint, by the same process: the adapter file is the same, byte for
// byte, as without.
TEST_F(TrialExecutorTest, AStoppedTrialGoesOnToTheSameAdapterFile) {
  RecordingObserver whole(root_ + "/undisturbed");
  ASSERT_EQ(executor_->Run(Spec("undisturbed"), whole).kind, AttemptOutcome::Kind::kSuccess);
  RecordingObserver stopped(root_ + "/stopped", /*stop_at_step=*/2);
  EXPECT_EQ(executor_->Run(Spec("resumed"), stopped).kind, AttemptOutcome::Kind::kStopped);
  RecordingObserver resumed(root_ + "/resumed");
  ASSERT_EQ(executor_->Run(Spec("resumed"), resumed).kind, AttemptOutcome::Kind::kSuccess);
  EXPECT_EQ(resumed.losses.size(), 1u) << "only the third step is left";
  EXPECT_EQ(*ReadFile(resumed.File("adapter.safetensors")), *ReadFile(whole.File("adapter.safetensors")));
  EXPECT_EQ(*ReadFile(resumed.File("embeddings.npy")), *ReadFile(whole.File("embeddings.npy")));
}

TEST_F(TrialExecutorTest, FineTuningScoresAgainstItsCaptionsAndGivesCurves) {
  RecordingObserver observer(root_ + "/finetune");
  const AttemptOutcome outcome = executor_->Run(
      Spec("finetune", {{"task.kind", "finetune"}, {"score.every", "2"}, {"train.validate_every", "1"}}), observer);
  ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
  EXPECT_TRUE(outcome.scores.contains("clip_fid_base"));
  EXPECT_FALSE(outcome.scores.contains("clip_fid_class"));
  EXPECT_THAT(observer.metrics, testing::IsSupersetOf({"loss", "validation_loss", "clip_fid"}));
}

TEST_F(TrialExecutorTest, WhatTheUserCanMendIsAUserErrorThatNamesIt) {
  RecordingObserver observer(root_ + "/errors");
  const auto message = [&](const std::map<std::string, std::string>& changes) {
    const AttemptOutcome outcome = executor_->Run(Spec("errors", changes), observer);
    EXPECT_EQ(outcome.kind, AttemptOutcome::Kind::kFailure);
    EXPECT_EQ(outcome.failure_class, FailureClass::kUserError) << outcome.failure_message;
    return outcome.failure_message;
  };
  EXPECT_THAT(message({{"task.images", "/nowhere"}}), HasSubstr("/nowhere"));
  EXPECT_THAT(message({{"base", "/nowhere"}}), HasSubstr("/nowhere"));
  fs::create_directories(root_ + "/broken");
  std::ofstream(root_ + "/broken/a.png") << "no picture";
  EXPECT_THAT(message({{"task.images", root_ + "/broken"}}), HasSubstr("broken/a.png"));
  fs::create_directories(root_ + "/empty");
  EXPECT_THAT(message({{"task.images", root_ + "/empty"}}), HasSubstr("holds no image"));
}

TEST(MakeTrialExecutorTest, RefusesADeviceThatIsNone) {
  EXPECT_THAT(std::string(MakeTrialExecutor({.device = "tpu"}).status().message()), HasSubstr("tpu"));
}

}  // namespace
}  // namespace loupe::worker
