// Whole runs with tiny networks on a handful of emoji drawn from the font.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>

#include "common/atomic_file.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "worker/base/base_model.h"
#include "worker/io/image.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"
#include "worker/nn/leaf_layers.h"
#include "worker/pretrain/pretrain.h"
#include "worker/pretrain/step_draws.h"
#include "worker/pretrain/vae_stage.h"
#include "worker/runtime/device.h"

namespace loupe::worker::pretrain {
namespace {

namespace fs = std::filesystem;

class PretrainRunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("loupe_pretrain_run_" + std::to_string(::getpid()));
    fs::create_directories(root_);
    // Ten emoji for training and two held out, from the built-in list.
    const auto all = nlohmann::json::parse(*ReadFile("configs/bases/emoji-sd/items.json"));
    nlohmann::json few = nlohmann::json::array();
    int held_out = 0;
    for (const auto& item : all) {
      const bool hold = !item["hold"].get<std::string>().empty();
      if (hold ? held_out++ < 2 : few.size() < 10) few.push_back(item);
    }
    config_.items = root_ / "items.json";
    EXPECT_TRUE(WriteFileAtomically(config_.items, few.dump()).ok());
    config_.seed = 5;
    config_.picture_size = 16;
    config_.tokenizer.present = config_.vae.present = config_.clip.present = config_.unet.present = true;
    config_.tokenizer.bpe.merges = 20;
    config_.tokenizer.max_length = 8;
    // Mixed precision in one part, and all of it in float32 in the others.
    config_.unet.options.precision = config_.unet.schedule.rates.muon_precision = torch::kBFloat16;
    config_.vae.channels = {8, 8};
    config_.vae.groups = 4;
    config_.vae.options.batch = 2;
    config_.clip.width = config_.clip.inner = config_.clip.image_width = config_.clip.image_inner = 16;
    config_.clip.heads = config_.clip.image_heads = 2;
    config_.clip.text_layers = config_.clip.image_layers = 1;
    config_.clip.patch = 8;
    config_.clip.projection = 8;
    config_.clip.options.batch = 8;
    config_.clip.options.neighbours = 3;
    config_.unet.channels = {8, 8};
    config_.unet.groups = 4;
    config_.unet.heads = 2;
    config_.unet.mixed_captions = 1;
    config_.unet.options.batch = 4;
    config_.unet.sheet_steps = 2;
    for (train::NetworkTraining* schedule : {&config_.vae.schedule, &config_.clip.schedule, &config_.unet.schedule}) {
      schedule->steps = 5;
      schedule->warm_up = 2;
      schedule->checkpoint_every = 4;
      schedule->look_every = 4;
    }
  }
  void TearDown() override { fs::remove_all(root_); }

  static std::string Bytes(const fs::path& path) {
    const auto bytes = ReadFile(path);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return bytes.ok() ? *bytes : "";
  }

  fs::path root_;
  PretrainConfig config_;
};

TEST_F(PretrainRunTest, InterruptedAfterEveryTwoStepsEndsInTheSameFilesAsUndisturbed) {
  const fs::path whole = root_ / "whole", pieces = root_ / "pieces";
  ASSERT_TRUE(Pretrain(config_, whole, {}).ok());
  // Each call may do two steps of each part: three parts of five steps need three calls or more.
  for (int call = 0; call < 9; ++call) {
    const auto status = Pretrain(config_, pieces, {.steps = 2});
    ASSERT_TRUE(status.ok()) << status;
  }
  for (const char* file : {"work/vae.safetensors", "work/clip.safetensors", "work/unet.safetensors",
                           "base/unet/diffusion_pytorch_model.safetensors", "clip/model.safetensors"}) {
    EXPECT_TRUE(Bytes(whole / file) == Bytes(pieces / file)) << file;
  }

  const auto base = base::LoadBase(whole / "base");
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(base->image_size(), 16);
  const auto scorer = base::LoadClipScorer(whole / "clip");
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  EXPECT_TRUE(fs::exists(whole / "sheets" / "unet-000005.png"));
}

// As in InterruptedAfter…, but with pictures from folders in two styles, shifted views, and a pair that is held out.
TEST_F(PretrainRunTest, FoldersOfStyledPicturesAreTrainedOnAndHeldOutPairsShown) {
  for (const char* style : {"noto", "dark"}) {
    const std::string folder = root_ / style;
    fs::create_directories(folder);
    std::string lines;
    for (int i = 0; i < 6; ++i) {
      const std::string file = fmt::format("{}.png", i);
      io::Image image{16, 16, std::vector<uint8_t>(16 * 16 * 3, static_cast<uint8_t>(style[0] == 'n' ? 255 : 90))};
      std::fill_n(image.rgb.begin() + 48 * i, 96, static_cast<uint8_t>(30 * i));
      ASSERT_TRUE(io::WritePng(folder + "/" + file, image).ok());
      lines += nlohmann::json({{"file_name", file},
                               {"name", fmt::format("thing {}", i)},
                               {"keywords", {"word"}},
                               {"group", "things"},
                               {"style", style},
                               {"hold", i == 4 ? "pair" : ""}})
                   .dump() +
               "\n";
    }
    ASSERT_TRUE(WriteFileAtomically(folder + "/metadata.jsonl", lines).ok());
    config_.pictures.push_back(folder);
  }
  config_.items.clear();
  config_.unet.views = 3;
  for (const auto& [out, steps] : {std::pair<const char*, int>{"whole", -1}, {"pieces", 3}, {"pieces", -1}}) {
    const auto status = Pretrain(config_, root_ / out, {.steps = steps});
    ASSERT_TRUE(status.ok()) << status;
    for (int more = 0; more < 3 && steps > 0; ++more) {
      ASSERT_TRUE(Pretrain(config_, root_ / out, {.steps = steps}).ok());
    }
  }
  EXPECT_TRUE(Bytes(root_ / "whole/work/unet.safetensors") == Bytes(root_ / "pieces/work/unet.safetensors"));
  EXPECT_TRUE(fs::exists(root_ / "whole/sheets/unet-held-out-000005.png"));
}

TEST_F(PretrainRunTest, ADamagedCheckpointIsRefused) {
  ASSERT_TRUE(Pretrain(config_, root_ / "run", {.steps = 2}).ok());
  const fs::path checkpoint = root_ / "run/work/vae.safetensors";
  std::string bytes = Bytes(checkpoint);
  bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 0x40);
  ASSERT_TRUE(WriteFileAtomically(checkpoint, bytes).ok());
  const absl::Status status = Pretrain(config_, root_ / "run", {.steps = 2});
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_NE(std::string(status.message()).find("vae.safetensors: the checkpoint's arrays do not have the digest"),
            std::string::npos)
      << status;
}

// The same draws on both, sums in another order: five steps' weights differ by no more than rounding grows in them.
TEST_F(PretrainRunTest, OnAGpuItTrainsTheSameNetworksAndTheSameBytesAgain) {
  const auto gpu = runtime::PrepareDevice("cuda", 0);
  if (!gpu.ok()) GTEST_SKIP() << gpu.status().message();
  config_.unet.options.precision = config_.unet.schedule.rates.muon_precision = torch::kFloat32;
  ASSERT_TRUE(Pretrain(config_, root_ / "cpu", {}).ok());
  for (const char* out : {"gpu", "again"}) {
    const auto status = Pretrain(config_, root_ / out, {}, *gpu);
    ASSERT_TRUE(status.ok()) << status;
  }
  for (const char* part : {"vae", "clip", "unet"}) {
    const std::string file = fmt::format("work/{}.safetensors", part);
    EXPECT_TRUE(Bytes(root_ / "gpu" / file) == Bytes(root_ / "again" / file)) << file;
    const auto expected = io::SafetensorsFile::Open(root_ / "cpu" / file),
               seen = io::SafetensorsFile::Open(root_ / "gpu" / file);
    ASSERT_TRUE(expected.ok() && seen.ok());
    double difference = 0, size = 0;
    for (const auto& [name, array] : expected->arrays()) {
      if (!name.starts_with("value.")) continue;
      const auto reference = models::ToTensor(array);
      difference += (models::ToTensor(seen->arrays().at(name)) - reference).square().sum().item<double>();
      size += reference.square().sum().item<double>();
    }
    EXPECT_LT(std::sqrt(difference / size), 1e-2) << part;
  }
}

// The format of before trials and pretraining shared one: the same state under other names.
void RewriteAsBefore(const std::string& path, const std::string& stage) {
  const auto file = io::SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  std::map<std::string, torch::Tensor> arrays;
  for (const auto& [name, array] : file->arrays()) {
    std::string old = name;
    const auto move = [&](const std::string& prefix, const std::string& suffix, const std::string& before) {
      if (!name.starts_with(prefix) || !name.ends_with(suffix)) return;
      old = before + name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
    };
    move("value.", "", "network.");
    move("optimizer.", ".momentum", "optimiser.momentum.");
    move("optimizer.", ".exp_avg", "optimiser.adam_first.");
    move("optimizer.", ".exp_avg_sq", "optimiser.adam_second.");
    arrays[old] = models::ToTensor(array);
  }
  const models::TensorArrays written = models::ToArrays(arrays);
  const io::Metadata metadata = {{"stage", stage},
                                 {"seed", "5"},
                                 {"step", file->metadata().at("loupe.step")},
                                 {"arrays_sha256", models::DigestOfArrays(written.views)}};
  ASSERT_TRUE(io::WriteSafetensors(path, written.views, metadata).ok());
}

TEST_F(PretrainRunTest, GoesOnFromACheckpointOfTheOldFormat) {
  config_.unet.present = false;
  ASSERT_TRUE(Pretrain(config_, root_ / "whole", {}).ok());
  const std::string pieces = root_ / "pieces";
  ASSERT_TRUE(Pretrain(config_, pieces, {.steps = 2}).ok());
  RewriteAsBefore(pieces + "/work/vae.safetensors", "vae");
  // The other three steps of the autoencoder, and as many of CLIP's five.
  ASSERT_TRUE(Pretrain(config_, pieces, {.steps = 3}).ok());
  RewriteAsBefore(pieces + "/work/clip.safetensors", "clip");
  const auto status = Pretrain(config_, pieces, {});
  ASSERT_TRUE(status.ok()) << status;
  for (const char* file : {"work/vae.safetensors", "work/clip.safetensors"}) {
    EXPECT_TRUE(Bytes(root_ / "whole" / file) == Bytes(root_ / "pieces" / file)) << file;
  }

  const fs::path old = root_ / "whole/work/vae.safetensors";
  RewriteAsBefore(old, "vae");
  std::string bytes = Bytes(old);
  bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 0x40);
  ASSERT_TRUE(WriteFileAtomically(old, bytes).ok());
  EXPECT_EQ(Pretrain(config_, root_ / "whole", {}).code(), absl::StatusCode::kDataLoss);
}

TEST_F(PretrainRunTest, CheckpointOfAnotherSeedIsRefused) {
  config_.clip.present = config_.unet.present = false;
  ASSERT_TRUE(Pretrain(config_, root_ / "out", {}).ok());
  config_.seed = 6;
  const auto status = Pretrain(config_, root_ / "out", {});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message().data(), status.message().size()).find("seed '5'"), std::string::npos)
      << status;
}

TEST_F(PretrainRunTest, PartTakenFromAFolderIsNotTrained) {
  config_.unet.present = config_.clip.present = false;
  ASSERT_TRUE(Pretrain(config_, root_ / "first", {}).ok());
  config_.vae.source.from = root_ / "first" / "base" / "vae";
  ASSERT_TRUE(Pretrain(config_, root_ / "second", {}).ok());
  const char* weights = "base/vae/diffusion_pytorch_model.safetensors";
  EXPECT_TRUE(Bytes(root_ / "first" / weights) == Bytes(root_ / "second" / weights));
  EXPECT_FALSE(fs::exists(root_ / "second" / "work" / "vae.safetensors"));
}

// Ink on white, the same for every picture but its place: soon learned by any network that learns.
VaeStage SmallVaeStage(VaeStage::LookFunction look) {
  auto pictures = torch::full({6, 3, 16, 16}, 255, torch::kUInt8);
  for (int64_t i = 0; i < 6; ++i) pictures[i].slice(1, i + 2, i + 8).slice(2, 4, 12).fill_(40);
  models::AutoencoderKLConfig shape;
  shape.norm_num_groups = 4;
  shape.block_out_channels = {8, 8};
  models::AutoencoderKL vae(shape);
  nn::InitialiseAsTorch(*vae, StepGenerator(1, 0, "vae/init"));
  return {vae, pictures, {.batch = 6}, 1, std::move(look)};
}

TEST_F(PretrainRunTest, NoCheckpointSaysDoneBeforeTheFolderIsWritten) {
  int looks = 0;
  // The first look at the end breaks off, as a power cut would.
  VaeStage stage = SmallVaeStage([&](int64_t) -> absl::StatusOr<std::string> {
    if (++looks == 1) return absl::AbortedError("cut off");
    return "seen";
  });
  const train::NetworkTraining schedule{.steps = 2, .warm_up = 1, .checkpoint_every = 2, .look_every = 2};
  EXPECT_EQ(train::TrainNetwork(stage, schedule, "run", {}, root_ / "vae.safetensors").status().message(), "cut off");
  const auto end = train::TrainNetwork(stage, schedule, "run", {}, root_ / "vae.safetensors");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(*end, train::TrainingEnd::kFinished);
  EXPECT_EQ(looks, 2);
}

TEST_F(PretrainRunTest, AutoencodersLossFalls) {
  VaeStage stage = SmallVaeStage([](int64_t) { return std::string("seen"); });
  std::map<std::string, torch::Tensor> parts;
  const double before = stage.Loss(0, parts).item<double>();
  train::NetworkTraining schedule{.steps = 60, .warm_up = 5, .average = 0.8, .checkpoint_every = 60, .look_every = 60};
  const auto end = train::TrainNetwork(stage, schedule, "run", {}, root_ / "vae.safetensors");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_LT(stage.Loss(0, parts).item<double>(), 0.7 * before);
}

TEST(StepDrawsTest, BatchesSeeEveryItemOncePerEpochWhereverTheyAreCut) {
  const auto first = BatchRows(3, "vae", 0, 4, 6), second = BatchRows(3, "vae", 1, 4, 6),
             third = BatchRows(3, "vae", 2, 4, 6);
  const auto two_epochs = torch::cat({first, second, third});
  const auto sorted = [](const torch::Tensor& x) { return std::get<0>(x.sort()); };
  EXPECT_TRUE(sorted(two_epochs.slice(0, 0, 6)).equal(torch::arange(6)));
  EXPECT_TRUE(sorted(two_epochs.slice(0, 6, 12)).equal(torch::arange(6)));
}

}  // namespace
}  // namespace loupe::worker::pretrain
