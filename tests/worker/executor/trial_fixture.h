// What tests of whole trials share: nine pictures, an attempt of a few small steps on the built-in base, and an
// observer that keeps what it is told.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "worker/data/emoji_renderer.h"
#include "worker/data/emoji_set.h"
#include "worker/executor/trial_executor.h"

namespace loupe::worker::executor {

// Keeps copies of artifacts; can tell the attempt to stop at a step.
class RecordingObserver : public AttemptObserver {
 public:
  explicit RecordingObserver(std::string folder, int64_t stop_at_step = -1)
      : folder_(std::move(folder)), stop_at_step_(stop_at_step) {
    std::filesystem::create_directories(folder_);
  }
  void OnProgress(std::string_view phase, int64_t step, int64_t) override {
    phases.emplace(phase);
    if (phase == "train" && step == stop_at_step_) stop_ = true;
  }
  void OnPack(int32_t attempts) override { packs.push_back(attempts); }
  void OnMetric(std::string_view metric, int64_t step, double value) override {
    if (metric == "loss") losses[step] = value;
    metrics.emplace(metric);
    curves[std::string(metric)][step] = value;
  }
  absl::Status OnArtifact(std::string_view name, std::string_view, const std::string& path) override {
    std::filesystem::copy_file(path, std::filesystem::path(folder_) / name,
                               std::filesystem::copy_options::overwrite_existing);
    return absl::OkStatus();
  }
  bool ShouldStop() const override { return stop_; }
  std::string File(const std::string& name) const { return folder_ + "/" + name; }

  std::set<std::string> phases, metrics;
  std::map<int64_t, double> losses;
  std::map<std::string, std::map<int64_t, double>> curves;  // by metric and step
  std::vector<int32_t> packs;                               // as it heard of them

 private:
  const std::string folder_;
  const int64_t stop_at_step_;
  bool stop_ = false;
};

class TrialTest : public ::testing::Test {
 protected:
  // The suite's folder with the pictures in it.
  static void MakeFolder(const std::string& name) {
    root_ = ::testing::TempDir() + name;
    std::filesystem::remove_all(root_);
    const auto items = data::ReadEmojiItems("configs/bases/emoji-sd/items.json");
    ASSERT_TRUE(items.ok()) << items.status();
    const auto cats = data::SelectEmojiFamily(*items, "cat-faces");
    ASSERT_TRUE(cats.ok());
    const auto count =
        data::RenderEmoji(*cats, {.font_path = data::kNotoColorEmojiPath, .out_folder = root_ + "/cats", .side = 64});
    ASSERT_TRUE(count.ok()) << count.status();
    ASSERT_EQ(*count, 9);
  }
  static std::unique_ptr<Executor> MakeExecutor(const std::string& device, int threads, bool graphs = false) {
    auto executor =
        MakeTrialExecutor({.device = device, .threads = threads, .cache_folder = root_ + "/cache", .graphs = graphs});
    EXPECT_TRUE(executor.ok()) << executor.status();
    return executor.ok() ? *std::move(executor) : nullptr;
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(root_); }

  // A change to nothing takes a setting away.
  AttemptSpec Spec(const std::string& name, const std::map<std::string, std::string>& changes = {},
                   int64_t replicate = 0) {
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
    std::erase_if(values, [](const auto& setting) { return setting.second.empty(); });
    AttemptSpec spec;
    spec.trial = "sweeps/s/trials/0";
    spec.settings = *settings::Settings::Create(values);
    spec.sweep_seed = 7;
    spec.replicate = replicate;
    spec.cell = {{"input", "CA_out"}};
    spec.scratch_folder = root_ + "/scratch-" + name;
    spec.checkpoint_folder = root_ + "/checkpoint-" + name;
    std::filesystem::create_directories(spec.scratch_folder);
    std::filesystem::create_directories(spec.checkpoint_folder);
    return spec;
  }

  inline static std::string root_;
};

}  // namespace loupe::worker::executor
