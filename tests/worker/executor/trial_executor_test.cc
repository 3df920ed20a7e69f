// Whole trials on the built-in base, with budgets of a few steps.
#include "worker/executor/trial_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "analysis/metrics/cosine_similarity.h"
#include "analysis/metrics/npy_file.h"
#include "common/atomic_file.h"
#include "common/score_table.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "tests/worker/executor/trial_fixture.h"
#include "worker/io/base_folder.h"
#include "worker/io/json_config.h"
#include "worker/io/safetensors.h"
#include "worker/models/efficientnet.h"
#include "worker/models/inception.h"
#include "worker/models/vit.h"
#include "worker/models/weights.h"

namespace loupe::worker::executor {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class TrialExecutorTest : public TrialTest {
 protected:
  static void SetUpTestSuite() {
    MakeFolder("trial_executor_test");
    executor_ = MakeExecutor("cpu", /*threads=*/1);
    ASSERT_NE(executor_, nullptr);
  }
  static void TearDownTestSuite() {
    executor_.reset();
    TrialTest::TearDownTestSuite();
  }

  inline static std::unique_ptr<Executor> executor_;
};

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
  const auto generated = analysis::metrics::ReadNpyFile(observer.File("embeddings.npy"));
  const auto base = analysis::metrics::ReadNpyFile(observer.File("embeddings-base.npy"));
  const auto subject = analysis::metrics::ReadNpyFile(observer.File("embeddings-subject.npy"));
  ASSERT_TRUE(generated.ok() && base.ok() && subject.ok());
  EXPECT_EQ(generated->rows, 4);
  EXPECT_EQ(subject->rows, 9);
  EXPECT_EQ(*analysis::metrics::MeanPairwiseCosine(*generated, *subject), outcome.scores.at("clip_i"));
  EXPECT_EQ(*analysis::metrics::MeanPairwiseCosine(*base, *subject), outcome.scores.at("clip_i_base"));
  // The untuned base's pictures stand where the tuned model's do, and are what its scores were computed from.
  const auto sheet = io::ReadImage(observer.File("samples.png")),
             base_sheet = io::ReadImage(observer.File("samples-base.png"));
  ASSERT_TRUE(sheet.ok() && base_sheet.ok());
  EXPECT_EQ(base_sheet->width, sheet->width);
  EXPECT_EQ(base_sheet->height, sheet->height);
  EXPECT_NE(base_sheet->rgb, sheet->rgb);
  const auto subject_sheet = io::ReadImage(observer.File("subject.png"));
  ASSERT_TRUE(subject_sheet.ok());
  EXPECT_EQ(subject_sheet->width, 3 * (sheet->width - 2) / 2 + 4) << "nine pictures, and four of a trial";
  EXPECT_EQ(observer.losses.size(), 3u);
  EXPECT_THAT(observer.phases, ::testing::IsSupersetOf({"prepare", "train", "sample", "score"}));
  EXPECT_EQ(outcome.provenance.at("trainable_parameters").empty(), false);
  EXPECT_THAT(outcome.provenance.at("numerics"), ::testing::StartsWith("3, "));
}

// Told after its second step that enough was seen: it trains no further, and is a result like others.
TEST_F(TrialExecutorTest, ATrialThatIsToldToFinishIsScored) {
  class Finishing : public RecordingObserver {
   public:
    using RecordingObserver::RecordingObserver;
    int64_t FinishAfter() const override { return losses.size() >= 2 ? 1 : 0; }
  } observer(root_ + "/finished");
  const AttemptOutcome outcome = executor_->Run(Spec("finished", {{"budget.steps", "5"}}), observer);
  ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
  EXPECT_EQ(outcome.stopped_at_step, 2);
  EXPECT_EQ(observer.losses.size(), 2u);
  EXPECT_TRUE(outcome.scores.contains("clip_i"));
  EXPECT_TRUE(fs::exists(observer.File("adapter.safetensors")));
}

// Stopped after the second step and run again from its checkpoint, by the same process: the adapter file is the same,
// byte for byte, as without.
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

// Captions are then encoded in each step, for the validation loss and for pictures too; a stopped trial goes on to the
// same bytes.
TEST_F(TrialExecutorTest, ATextEncoderIsTrainedWithItsCaptions) {
  for (const std::string task : {"dreambooth", "finetune"}) {
    SCOPED_TRACE(task);
    const std::map<std::string, std::string> lora = {
        {"task.kind", task},  {"method.kind", "lora"}, {"method.rank", "2"}, {"method.text_encoder", "true"},
        {"method.input", ""}, {"method.output", ""},   {"method.width", ""}, {"train.validate_every", "1"}};
    const std::string name = fmt::format("text-{}", task);
    RecordingObserver whole(fmt::format("{}/{}", root_, name));
    const AttemptOutcome outcome = executor_->Run(Spec(name, lora), whole);
    ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
    EXPECT_TRUE(whole.metrics.contains("validation_loss"));
    const auto file = io::SafetensorsFile::Open(whole.File("adapter.safetensors"));
    ASSERT_TRUE(file.ok()) << file.status();
    int64_t trained = 0;
    for (const auto& [name, view] : file->arrays()) {
      // The second factor begins at 0 and moves only where a gradient comes.
      if (!name.starts_with("text_encoder.") || !name.ends_with("lora_B.weight")) continue;
      EXPECT_GT(models::ToTensor(view).abs().max().item<double>(), 0) << name;
      ++trained;
    }
    EXPECT_GT(trained, 0);
    if (task == "finetune") continue;
    RecordingObserver stopped(root_ + "/text-stopped", /*stop_at_step=*/2), resumed(root_ + "/text-resumed");
    EXPECT_EQ(executor_->Run(Spec("text-resumed", lora), stopped).kind, AttemptOutcome::Kind::kStopped);
    ASSERT_EQ(executor_->Run(Spec("text-resumed", lora), resumed).kind, AttemptOutcome::Kind::kSuccess);
    EXPECT_EQ(*ReadFile(resumed.File("adapter.safetensors")), *ReadFile(whole.File("adapter.safetensors")));
  }
}

// Weights that keep a signal's size.
void WriteRandomWeights(torch::nn::Module& network, const std::string& path) {
  torch::manual_seed(5);
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& item : network.named_parameters()) {
    const torch::Tensor& shape = item.value();
    if (shape.dim() > 1) {
      tensors[item.key()] = torch::randn(shape.sizes()) * std::sqrt(2.0 / static_cast<double>(shape[0].numel()));
    } else {
      const bool one = item.key().ends_with("weight") || item.key().ends_with("running_var");
      tensors[item.key()] = torch::full(shape.sizes(), one ? 1.0 : 0.0);
    }
  }
  const absl::Status status = io::WriteSafetensors(path, models::ToArrays(tensors).views, {{"format", "pt"}});
  TORCH_CHECK(status.ok(), status.ToString());
}

std::string WriteSmallViT(const std::string& folder) {
  fs::create_directories(folder);
  std::ofstream(folder + "/config.json") << R"({"model_type": "vit", "hidden_size": 8, "num_attention_heads": 2,
    "num_hidden_layers": 1, "intermediate_size": 16, "image_size": 16, "patch_size": 8})";
  std::ofstream(folder + "/preprocessor_config.json") << R"({"size": 16, "resample": 2, "do_normalize": true,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})";
  WriteRandomWeights(*models::ViTModel(*models::ViTConfig::Read(folder + "/config.json")),
                     folder + "/model.safetensors");
  return folder;
}

std::string WriteSmallEfficientNet(const std::string& folder) {
  fs::create_directories(folder);
  std::ofstream(folder + "/config.json") << R"({"model_type": "efficientnet-lite", "width_coefficient": 0.1,
    "depth_coefficient": 0.1, "image_size": 32, "num_classes": 2})";
  std::ofstream(folder + "/preprocessor_config.json") << R"({"size": 32, "resample": 2, "do_normalize": true,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})";
  WriteRandomWeights(*models::EfficientNet(*models::EfficientNetConfig::Read(folder + "/config.json")),
                     folder + "/model.safetensors");
  return folder;
}

TEST_F(TrialExecutorTest, OtherNetworksAddTheirScoresAndWhatTheyAreComputedFrom) {
  const std::string inception = root_ + "/inception.safetensors";
  WriteRandomWeights(*models::Inception(), inception);
  RecordingObserver observer(root_ + "/networks");
  const AttemptOutcome outcome =
      executor_->Run(Spec("networks", {{"score.dino", WriteSmallViT(root_ + "/vit")},
                                       {"score.efficientnet", WriteSmallEfficientNet(root_ + "/effnet")},
                                       {"score.inception", inception},
                                       {"score.prior_samples", "3"}}),
                     observer);
  ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
  for (const char* name : {"dino_i", "dino_nearest", "dino_diversity", "dino_pres", "dino_div", "effnet_i",
                           "effnet_nearest", "effnet_diversity", "effnet_fd", "clip_cmmd", "clip_pres", "clip_div",
                           "fid", "kid", "kid_sd", "precision", "recall"}) {
    EXPECT_TRUE(outcome.scores.contains(name)) << name;
    EXPECT_TRUE(outcome.scores.contains(std::string(name) + "_base")) << name;
  }
  for (const auto& [name, value] : outcome.scores)
    EXPECT_NE(FindScore(name), nullptr) << name << " is not in the table";
  const auto rows = [&](const std::string& name) {
    const auto features = analysis::metrics::ReadNpyFile(observer.File(name + ".npy"));
    return features.ok() ? std::pair(features->rows, features->cols) : std::pair<int64_t, int64_t>(0, 0);
  };
  for (const std::string of : {"", "-base"}) {
    EXPECT_EQ(rows("dino" + of), std::pair(int64_t{4}, int64_t{8}));
    EXPECT_EQ(rows("inception" + of), std::pair(int64_t{4}, int64_t{2048}));
    EXPECT_EQ(rows("effnet" + of), std::pair(int64_t{4}, int64_t{1280}));
  }
  for (const std::string of : {"-prior", "-prior-base"})
    EXPECT_EQ(rows("dino" + of), std::pair(int64_t{3}, int64_t{8}));
  EXPECT_EQ(rows("inception-subject"), std::pair(int64_t{9}, int64_t{2048}));
  const auto generated = analysis::metrics::ReadNpyFile(observer.File("dino.npy"));
  const auto subject = analysis::metrics::ReadNpyFile(observer.File("dino-subject.npy"));
  EXPECT_EQ(*analysis::metrics::MeanPairwiseCosine(*generated, *subject), outcome.scores.at("dino_i"));
  EXPECT_EQ(outcome.provenance.at("effnet_sha256").size(), 64u);
  EXPECT_THAT(outcome.provenance.at("warning.fid"),
              HasSubstr("4 generated and 9 reference pictures in 2048 dimensions"));
  EXPECT_THAT(outcome.provenance.at("warning.clip_fid"), HasSubstr("in 128 dimensions"));
}

TEST_F(TrialExecutorTest, FineTuningScoresAgainstItsCaptionsAndGivesCurves) {
  RecordingObserver observer(root_ + "/finetune");
  const AttemptOutcome outcome =
      executor_->Run(Spec("finetune", {{"task.kind", "finetune"},
                                       {"score.every", "2"},
                                       {"train.validate_every", "1"},
                                       {"score.dino", WriteSmallViT(root_ + "/vit-finetune")}}),
                     observer);
  ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
  EXPECT_TRUE(outcome.scores.contains("clip_fid_base"));
  EXPECT_FALSE(outcome.scores.contains("clip_fid_class"));
  EXPECT_TRUE(outcome.scores.contains("dino_i"));
  EXPECT_TRUE(fs::exists(observer.File("dino-own.npy")));
  EXPECT_THAT(observer.metrics, ::testing::IsSupersetOf({"loss", "validation_loss", "clip_fid"}));
}

TEST_F(TrialExecutorTest, WhatTheUserCanMendIsAUserErrorThatNamesIt) {
  RecordingObserver observer(root_ + "/errors");
  const auto message = [&](const std::map<std::string, std::string>& changes) {
    const AttemptOutcome outcome = executor_->Run(Spec("errors", changes), observer);
    EXPECT_EQ(outcome.kind, AttemptOutcome::Kind::kFailure);
    EXPECT_EQ(outcome.failure_class, FailureClass::kUserError) << outcome.failure_message;
    return outcome.failure_message;
  };
  EXPECT_THAT(message({{"base", "/nowhere"}}), HasSubstr("/nowhere"));
  EXPECT_THAT(message({{"score.inception", "/nowhere.pth"}}), HasSubstr("/nowhere.pth"));
  EXPECT_THAT(message({{"score.dino", "/nowhere"}}), HasSubstr("/nowhere/config.json"));
  EXPECT_THAT(message({{"score.efficientnet", "/nowhere"}}), HasSubstr("/nowhere/config.json"));
  EXPECT_THAT(observer.phases, IsEmpty()) << "said before anything is computed";
  EXPECT_THAT(message({{"task.images", "/nowhere"}}), HasSubstr("/nowhere"));
  fs::create_directories(root_ + "/broken");
  std::ofstream(root_ + "/broken/a.png") << "no picture";
  EXPECT_THAT(message({{"task.images", root_ + "/broken"}}), HasSubstr("broken/a.png"));
  fs::create_directories(root_ + "/empty");
  EXPECT_THAT(message({{"task.images", root_ + "/empty"}}), HasSubstr("holds no image"));
  EXPECT_THAT(message({{"method.input", "CA_c"}, {"method.output", "SA_in"}}), HasSubstr("cannot read at CA_c"));
  EXPECT_THAT(message({{"train.precision", "fp16"}}), HasSubstr("fp16 needs a GPU"));
  EXPECT_THAT(message({{"train.vlb_weight", "0.001"}}), HasSubstr("emoji-sd predicts no variance"));
  EXPECT_FALSE(fs::exists(observer.File("adapter.safetensors")));
}

TEST_F(TrialExecutorTest, ALossThatDivergesEndsTheAttemptWithTheReason) {
  RecordingObserver observer(root_ + "/diverged");
  const auto message = [&](const std::map<std::string, std::string>& changes) {
    const AttemptSpec spec = Spec("diverged", changes);
    const AttemptOutcome outcome = executor_->Run(spec, observer);
    EXPECT_EQ(outcome.kind, AttemptOutcome::Kind::kFailure);
    EXPECT_EQ(outcome.failure_class, FailureClass::kUserError) << outcome.failure_message;
    EXPECT_FALSE(fs::exists(spec.checkpoint_folder + "/checkpoint.safetensors")) << "diverged values are not kept";
    return outcome.failure_message;
  };
  // From a second layer of zeros, the first layer's first gradient is 0, and AdamW without an epsilon divides 0 by 0.
  EXPECT_THAT(message({{"method.init", "zero"}, {"train.epsilon", "0"}}),
              HasSubstr("the loss is nan at step 2: training diverged; lower train.learning_rate (0.01)"));
  // From a base that is right by four fifths to noise of its own: the UNet's last norm keeps that at about 1.
  EXPECT_THAT(message({{"budget.steps", "30"}, {"train.learning_rate", "10"}, {"train.checkpoint_every", "30"}}),
              AllOf(HasSubstr("times that of predicting nothing, and was 0."), HasSubstr("(train.max_error: 0.9)")));
}

// The built-in base with a second half of outputs, the variance's: the same pictures, and a loss with the bound in it.
TEST_F(TrialExecutorTest, ABaseThatPredictsItsVarianceTrainsAndSamples) {
  const std::string folder = root_ + "/variance-base", weights = folder + "/unet/diffusion_pytorch_model.safetensors";
  fs::copy("configs/bases/emoji-sd", folder, fs::copy_options::recursive);
  auto config = nlohmann::json::parse(*ReadFile(folder + "/unet/config.json"));
  config["out_channels"] = 8;
  std::ofstream(folder + "/unet/config.json") << config;
  std::map<std::string, torch::Tensor> arrays;
  {
    const auto file = io::SafetensorsFile::Open(weights);
    ASSERT_TRUE(file.ok()) << file.status();
    for (const auto& [name, view] : file->arrays()) arrays[name] = models::ToTensor(view);
  }
  for (const char* name : {"conv_out.weight", "conv_out.bias"}) {
    arrays[name] = torch::cat({arrays.at(name), torch::zeros_like(arrays.at(name))});
  }
  ASSERT_TRUE(io::WriteSafetensors(weights, models::ToArrays(arrays).views, {}).ok());

  RecordingObserver plain(root_ + "/plain"), observer(root_ + "/variance");
  const AttemptOutcome expected = executor_->Run(Spec("plain"), plain);
  const AttemptOutcome outcome =
      executor_->Run(Spec("variance", {{"base", folder}, {"train.vlb_weight", "0.001"}}), observer);
  ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
  // Other kernels for other shapes: rounding, seen through 8-bit pictures.
  EXPECT_NEAR(outcome.scores.at("clip_i_base"), expected.scores.at("clip_i_base"), 1e-3);
  EXPECT_GT(observer.losses.at(1), plain.losses.at(1)) << "the bound is never negative";
}

TEST(MakeTrialExecutorTest, SaysWhichBasesItLoads) {
  const auto executor = MakeTrialExecutor({.device = "cpu"});
  ASSERT_TRUE(executor.ok()) << executor.status();
  for (const char* name : {"emoji-sd", "emoji-dit", "emoji-diffussm"}) {
    const std::string folder = std::string("configs/bases/") + name;
    const auto kind = io::BaseKindOf(folder);
    ASSERT_TRUE(kind.ok()) << kind.status();
    auto config = io::JsonConfig::Read(fmt::format("{}/{}/config.json", folder, io::DenoiserFolder(*kind)));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_THAT((*executor)->Abilities().bases, ::testing::Contains(config->String("_class_name")));
  }
}

TEST(MakeTrialExecutorTest, RefusesADeviceThatIsNone) {
  EXPECT_THAT(std::string(MakeTrialExecutor({.device = "tpu"}).status().message()), HasSubstr("tpu"));
}

}  // namespace
}  // namespace loupe::worker::executor
