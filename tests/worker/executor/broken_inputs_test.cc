// Trials on bases, scorers and pictures that are broken, replaced or too few.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "fmt/format.h"
#include "tests/worker/executor/trial_fixture.h"
#include "worker/base/model_store.h"
#include "worker/executor/sample_request.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kBase[] = "configs/bases/emoji-sd";
constexpr char kScorer[] = "configs/scorers/emoji-clip";
constexpr char kUNetFile[] = "/unet/diffusion_pytorch_model.safetensors";
constexpr char kVaeFile[] = "/vae/diffusion_pytorch_model.safetensors";
constexpr double kInfinity = std::numeric_limits<double>::infinity();

class BrokenInputsTest : public TrialTest {
 protected:
  static void SetUpTestSuite() {
    MakeFolder("broken_inputs_test");
    executor_ = MakeExecutor("cpu", /*threads=*/1);
    ASSERT_NE(executor_, nullptr);
  }
  static void TearDownTestSuite() {
    executor_.reset();
    TrialTest::TearDownTestSuite();
  }

  // Rewrites one array of a file, in float32.
  static void Change(const std::string& path, const std::string& name,
                     const std::function<void(torch::Tensor)>& change) {
    std::map<std::string, torch::Tensor> arrays;
    {
      const auto file = io::SafetensorsFile::Open(path);
      ASSERT_TRUE(file.ok()) << file.status();
      for (const auto& [key, view] : file->arrays()) arrays[key] = models::ToTensor(view);
    }
    ASSERT_TRUE(arrays.contains(name)) << name;
    arrays[name] = arrays[name].to(torch::kFloat32).contiguous();
    change(arrays[name]);
    ASSERT_TRUE(io::WriteSafetensors(path, models::ToArrays(arrays).views, {{"format", "pt"}}).ok());
  }
  // A copy of `model` with one array changed.
  static std::string Changed(const std::string& model, const std::string& file, const std::string& name,
                             const std::function<void(torch::Tensor)>& change) {
    const std::string folder = fmt::format("{}/model-{}", root_, ++models_);
    fs::copy(model, folder, fs::copy_options::recursive);
    Change(folder + file, name, change);
    return folder;
  }

  AttemptOutcome Run(const std::map<std::string, std::string>& changes, RecordingObserver* observer = nullptr) {
    const std::string name = fmt::format("run-{}", ++runs_);
    RecordingObserver own(root_ + "/" + name);
    return executor_->Run(Spec(name, changes), observer == nullptr ? own : *observer);
  }
  // Of an attempt that ends before it trains.
  std::string UserErrorOf(const std::map<std::string, std::string>& changes) {
    RecordingObserver observer(fmt::format("{}/error-{}", root_, ++runs_));
    const AttemptOutcome outcome = Run(changes, &observer);
    EXPECT_EQ(outcome.kind, AttemptOutcome::Kind::kFailure);
    EXPECT_EQ(outcome.failure_class, FailureClass::kUserError) << outcome.failure_message;
    EXPECT_TRUE(observer.losses.empty()) << "nothing is trained";
    EXPECT_THAT(outcome.failure_message, Not(HasSubstr("learning_rate")));
    return outcome.failure_message;
  }
  // A folder with the first `count` cats.
  static std::string Cats(int count) {
    const std::string folder = fmt::format("{}/cats-{}", root_, count);
    if (!fs::exists(folder)) {
      fs::create_directories(folder);
      std::vector<fs::path> all;
      for (const auto& entry : fs::directory_iterator(root_ + "/cats")) {
        if (entry.path().extension() == ".png") all.push_back(entry.path());
      }
      std::sort(all.begin(), all.end());
      for (int i = 0; i < count; ++i) fs::copy(all[static_cast<size_t>(i)], folder);
    }
    return folder;
  }

  inline static std::unique_ptr<Executor> executor_;
  inline static int models_ = 0, runs_ = 0;
};

TEST_F(BrokenInputsTest, AWeightThatIsNotFiniteIsNamedAtLoad) {
  const auto spoil = [](torch::Tensor values) { values.flatten()[3].fill_(kInfinity); };
  const auto expect = [&](const std::string& message, const std::string& file, const std::string& weight) {
    EXPECT_THAT(message, AllOf(HasSubstr(file), HasSubstr("'" + weight + "'"), HasSubstr("1 of "),
                               HasSubstr("not finite (the first is inf")));
  };
  expect(UserErrorOf({{"base", Changed(kBase, kUNetFile, "conv_in.weight", spoil)}}), "unet/", "conv_in.weight");
  expect(UserErrorOf({{"base", Changed(kBase, kVaeFile, "decoder.conv_in.weight", spoil)}}), "vae/",
         "decoder.conv_in.weight");
  expect(UserErrorOf({{"scorer", Changed(kScorer, "/model.safetensors", "visual_projection.weight", spoil)}}),
         "model.safetensors", "visual_projection.weight");
}

// All weights are finite; what is computed of them is not.
TEST_F(BrokenInputsTest, APartThatOverflowsIsNamed) {
  const auto huge = [](torch::Tensor values) { values.fill_(3e38); };
  EXPECT_THAT(UserErrorOf({{"base", Changed(kBase, kUNetFile, "conv_out.weight", huge)}}),
              HasSubstr("what the UNet predicts in step 1 of 2 of sampling is not finite"));
  EXPECT_THAT(UserErrorOf({{"base", Changed(kBase, kVaeFile, "decoder.conv_out.weight", huge)}}),
              HasSubstr("what the VAE's decoder gives: "));
  EXPECT_THAT(UserErrorOf({{"base", Changed(kBase, kVaeFile, "quant_conv.weight", huge)}}),
              HasSubstr("what the VAE's encoder gives: "));
  EXPECT_THAT(UserErrorOf({{"base", Changed(kBase, "/text_encoder/model.safetensors",
                                            "text_model.final_layer_norm.weight", huge)}}),
              HasSubstr("what the text encoder gives: "));
  EXPECT_THAT(UserErrorOf({{"scorer", Changed(kScorer, "/model.safetensors", "visual_projection.weight", huge)}}),
              HasSubstr("what the vision tower gives: "));
}

TEST_F(BrokenInputsTest, AScorerThatSeesNothingIsNamed) {
  const std::string scorer =
      Changed(kScorer, "/model.safetensors", "visual_projection.weight", [](torch::Tensor values) { values.zero_(); });
  EXPECT_THAT(UserErrorOf({{"scorer", scorer}}), AllOf(HasSubstr(scorer), HasSubstr("all zeros")));
}

TEST_F(BrokenInputsTest, SamplingSaysWhereToo) {
  const std::string base =
      Changed(kBase, kUNetFile, "conv_out.weight", [](torch::Tensor values) { values.fill_(3e38); });
  const std::string out = root_ + "/sampled.png";
  const absl::Status status =
      SampleToFile({.base = base, .prompt = "cat face", .out = out, .steps = 2, .device = "cpu", .threads = 1});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("step 1 of 2 of sampling is not finite"));
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(BrokenInputsTest, AnAdapterWithNaNIsRefusedWhenRead) {
  RecordingObserver observer(root_ + "/adapter");
  ASSERT_EQ(Run({}, &observer).kind, AttemptOutcome::Kind::kSuccess);
  const std::string adapter = observer.File("adapter.safetensors"), out = root_ + "/adapted.png";
  SampleRequest request{
      .base = kBase, .adapter = adapter, .prompt = "cat face", .out = out, .steps = 2, .device = "cpu"};
  request.threads = 1;
  ASSERT_TRUE(SampleToFile(request).ok());
  fs::remove(out);
  {
    const auto file = io::SafetensorsFile::Open(adapter);
    ASSERT_TRUE(file.ok()) << file.status();
    std::map<std::string, torch::Tensor> arrays;
    for (const auto& [key, view] : file->arrays()) arrays[key] = models::ToTensor(view);
    arrays.begin()->second.flatten()[0].fill_(std::nan(""));
    ASSERT_TRUE(io::WriteSafetensors(request.adapter = root_ + "/nan.safetensors", models::ToArrays(arrays).views,
                                     file->metadata())
                    .ok());
  }
  const absl::Status status = SampleToFile(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("nan.safetensors"), HasSubstr("the first is nan")));
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(BrokenInputsTest, OnePictureKeepsTheScoresThatItHas) {
  RecordingObserver observer(root_ + "/one");
  const AttemptOutcome outcome = Run({{"task.images", Cats(1)}}, &observer);
  ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
  EXPECT_TRUE(outcome.scores.contains("clip_i"));
  EXPECT_TRUE(outcome.scores.contains("clip_fid_class")) << "two class pictures suffice";
  for (const char* name : {"clip_fid", "clip_kid", "clip_precision", "clip_recall"}) {
    EXPECT_FALSE(outcome.scores.contains(name)) << name;
    EXPECT_THAT(outcome.provenance.at(std::string("warning.") + name), HasSubstr("1 of the training set")) << name;
  }
  EXPECT_TRUE(fs::exists(observer.File("adapter.safetensors")));
}

TEST_F(BrokenInputsTest, AMissingPrimaryScoreIsRefusedFirst) {
  EXPECT_THAT(UserErrorOf({{"task.images", Cats(1)}, {"score.primary", "clip_fid"}}),
              AllOf(HasSubstr("primary score clip_fid cannot be computed"), HasSubstr("1 of the training set")));
  EXPECT_THAT(UserErrorOf({{"task.images", Cats(3)}, {"score.primary", "clip_recall"}}), HasSubstr("needs 4 pictures"));
  EXPECT_THAT(UserErrorOf({{"score.prior_samples", "1"}, {"score.primary", "clip_pres"}}),
              HasSubstr("score.prior_samples of 2 or more"));
}

TEST_F(BrokenInputsTest, AReplacedScorerIsReadAnew) {
  const std::string scorer = Changed(kScorer, "/model.safetensors", "logit_scale", [](torch::Tensor) {});
  const AttemptOutcome before = Run({{"scorer", scorer}});
  ASSERT_EQ(before.kind, AttemptOutcome::Kind::kSuccess) << before.failure_message;
  EXPECT_EQ(Run({{"scorer", scorer}}).scores, before.scores) << "nothing changed";
  Change(scorer + "/model.safetensors", "visual_projection.weight", [](torch::Tensor values) { values[0].mul_(-1.5); });
  const AttemptOutcome after = Run({{"scorer", scorer}});
  ASSERT_EQ(after.kind, AttemptOutcome::Kind::kSuccess) << after.failure_message;
  EXPECT_NE(after.provenance.at("scorer_sha256"), before.provenance.at("scorer_sha256"));
  EXPECT_NE(after.scores.at("clip_i"), before.scores.at("clip_i"));
}

TEST_F(BrokenInputsTest, ABaseThatVanishesIsARetryableFailure) {
  const std::string base = Changed(kBase, kUNetFile, "conv_out.bias", [](torch::Tensor) {});
  base::ModelStore models(torch::kCPU);
  models.Base(base);
  EXPECT_FALSE(models.ForgetChanged());
  fs::rename(base + "/unet", base + "/moved");
  EXPECT_TRUE(models.ForgetChanged());
  try {
    models.Base(base);
    FAIL() << "there is no unet";
  } catch (const runtime::UserError& error) {
    FAIL() << "it may come back: " << error.what();
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("unet/config.json: not found"), HasSubstr("changed since this worker loaded")));
  }
  fs::rename(base + "/moved", base + "/unet");
  EXPECT_EQ(models.Base(base).model.folder, base);
}

// The digest of a base stands in adapter files: it must not change with the program.
TEST_F(BrokenInputsTest, TheBuiltInModelsKeepTheirDigests) {
  base::ModelStore models(torch::kCPU);
  EXPECT_EQ(models.Base(kBase).sha256, "766e02a21d62658048b067bd60fc75b59baa65d736662891607af95fe24a9c5f");
  EXPECT_EQ(models.Scorer(kScorer).sha256, "c02d0a995bb00b2d3a72e9ad6ea043b78978fea7310621e865ecf78eab12a9ef");
}

TEST_F(BrokenInputsTest, WeightsInALinkedFolderCount) {
  const std::string base = root_ + "/linked-base", moved = root_ + "/linked-unet";
  fs::copy(kBase, base, fs::copy_options::recursive);
  base::ModelStore models(torch::kCPU);
  const std::string sha256 = models.Base(base).sha256;
  fs::rename(base + "/unet", moved);
  fs::create_directory_symlink(moved, base + "/unet");
  EXPECT_FALSE(models.ForgetChanged()) << "the same files under the same names";
  models.ForgetAll();
  EXPECT_EQ(models.Base(base).sha256, sha256);
  Change(moved + "/diffusion_pytorch_model.safetensors", "conv_out.bias", [](torch::Tensor values) { values.add_(1); });
  EXPECT_TRUE(models.ForgetChanged());
  EXPECT_NE(models.Base(base).sha256, sha256);
}

}  // namespace
}  // namespace loupe::worker::executor
