// Stable Diffusion v1.5 at its full size, with random weights, through a folder on the disk: loads, makes one training
// step and one guided sampling step within 20 GB. Needs that memory, 3 GB of disk and some minutes, so it is run only
// with LOUPE_FULL_SIZE in the environment.
#include <sys/resource.h>
#include <torch/types.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "common/settings/settings.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "worker/base/base_model.h"
#include "worker/io/safetensors.h"
#include "worker/methods/method_registry.h"
#include "worker/models/weights.h"
#include "worker/nn/tappable.h"
#include "worker/sampling/picture_sampler.h"
#include "worker/train/adamw.h"

namespace loupe::worker::models {
namespace {

namespace fs = std::filesystem;

// The published config.json files' settings.
constexpr char kUNet[] = R"({"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
  "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
  "cross_attention_dim": 768, "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
  "CrossAttnDownBlock2D", "DownBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0,
  "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32,
  "out_channels": 4, "sample_size": 64, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
  "CrossAttnUpBlock2D"]})";
constexpr char kVae[] = R"({"_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
  "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D",
  "DownEncoderBlock2D", "DownEncoderBlock2D"], "in_channels": 3, "latent_channels": 4, "layers_per_block": 2,
  "norm_num_groups": 32, "out_channels": 3, "sample_size": 512, "up_block_types": ["UpDecoderBlock2D",
  "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]})";
constexpr char kText[] = R"({"architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 0,
  "dropout": 0.0, "eos_token_id": 2, "hidden_act": "quick_gelu", "hidden_size": 768, "initializer_factor": 1.0,
  "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 77,
  "model_type": "clip_text_model", "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1,
  "projection_dim": 768, "torch_dtype": "float32", "transformers_version": "4.22.0.dev0", "vocab_size": 49408})";
constexpr char kScheduler[] = R"({"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
  "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false,
  "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null, "clip_sample": false})";

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double PeakGb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1e6;
}

// Random float16 weights that keep a signal's size, under `prefix`.
template <typename Network, typename Config>
int64_t WritePart(const fs::path& folder, const char* config_name, const char* config, const char* weights,
                  const std::string& prefix, absl::StatusOr<Config> (*read)(const std::string&)) {
  fs::create_directories(folder);
  std::ofstream(folder / config_name) << config;
  const auto parsed = read((folder / config_name).string());
  TORCH_CHECK(parsed.ok(), parsed.status().ToString());
  const Network network(*parsed);
  std::map<std::string, torch::Tensor> tensors;
  int64_t count = 0;
  for (const auto& item : network->named_parameters()) {
    const auto& shape = item.value();
    const double spread = shape.dim() > 1 ? 1.0 / std::sqrt(static_cast<double>(shape[0].numel())) : 0.0;
    const bool gain = shape.dim() == 1 && item.key().ends_with("weight");
    tensors[prefix + item.key()] = (torch::randn(shape.sizes()) * spread + (gain ? 1.0 : 0.0)).to(torch::kFloat16);
    count += shape.numel();
  }
  const TensorArrays arrays = ToArrays(tensors);
  const auto status = io::WriteSafetensors((folder / weights).string(), arrays.views, {{"format", "pt"}});
  TORCH_CHECK(status.ok(), status.ToString());
  return count;
}

TEST(FullSizeTest, StableDiffusion15LoadsTrainsAndSamplesWithin20Gb) {
  if (std::getenv("LOUPE_FULL_SIZE") == nullptr)
    GTEST_SKIP() << "it takes 8 GB of memory and minutes: LOUPE_FULL_SIZE=1";
  torch::manual_seed(1);
  const fs::path folder = fs::path(::testing::TempDir()) / "full_size_test";
  fs::remove_all(folder);
  const char* weights = "diffusion_pytorch_model.safetensors";
  const int64_t unet_count = WritePart<UNet2DConditionModel, UNet2DConditionConfig>(
      folder / "unet", "config.json", kUNet, weights, "", UNet2DConditionConfig::Read);
  EXPECT_EQ(unet_count, 859'520'964);
  WritePart<AutoencoderKL, AutoencoderKLConfig>(folder / "vae", "config.json", kVae, weights, "",
                                                AutoencoderKLConfig::Read);
  WritePart<CLIPTextModel, ClipTextConfig>(folder / "text_encoder", "config.json", kText, "model.safetensors",
                                           "text_model.", ClipTextConfig::Read);
  fs::create_directories(folder / "scheduler");
  std::ofstream(folder / "scheduler/scheduler_config.json") << kScheduler;
  // Any vocabulary that fits into the text tower's.
  fs::copy("configs/bases/emoji-sd/tokenizer", folder / "tokenizer");

  double start = Seconds();
  auto base = base::LoadBase(folder.string());
  ASSERT_TRUE(base.ok()) << base.status();
  fs::remove_all(folder);
  fmt::print("loading: {:.1f} s, peak {:.1f} GB\n", Seconds() - start, PeakGb());
  const auto blocks = nn::TappableBlocksIn(*base->unet);
  EXPECT_EQ(blocks.size(), 16u + 22u);

  const auto settings = settings::Settings::Create({{"base", "b"},
                                                    {"scorer", "s"},
                                                    {"task.images", "i"},
                                                    {"task.instance_prompt", "a photo of a sks dog"},
                                                    {"task.class_prompt", "a photo of a dog"},
                                                    {"method.input", "CA_out"},
                                                    {"method.output", "FFN_in"},
                                                    {"method.width", "60"},
                                                    {"budget.steps", "1"}});
  ASSERT_TRUE(settings.ok()) << settings.status();
  const auto method = methods::MakeMethod(nn::SitesIn(*base->unet), {{*settings, 7}}, torch::kCPU);
  // The paper's 1.5 million.
  EXPECT_EQ(method->ParametersOf(0), 1'511'040);

  start = Seconds();
  const auto context = base->EncodeText({"a photo of a sks dog"});
  const auto x0 = torch::randn({1, 4, 64, 64}), noise = torch::randn_like(x0);
  const auto at = torch::tensor({int64_t{500}});
  train::AdamW optimiser(train::ParametersOfSlot(method->parameters(), 0), {});
  const auto loss = torch::mse_loss(base->unet(base->schedule.AddNoise(x0, noise, at), at, context), noise);
  loss.backward();
  const auto norm = optimiser.Step(/*rate_factor=*/1);
  fmt::print("training step: {:.1f} s, peak {:.1f} GB, loss {:.3f}\n", Seconds() - start, PeakGb(), loss.item<float>());
  EXPECT_TRUE(std::isfinite(loss.item<float>()));
  EXPECT_GT(norm.max().item<float>(), 0);

  start = Seconds();
  sampling::SampleOptions options;
  options.steps = 1;
  const auto pictures = sampling::SamplePictures(*base, {"a photo of a sks dog"}, noise, options);
  fmt::print("guided sampling step and decoding: {:.1f} s, peak {:.1f} GB\n", Seconds() - start, PeakGb());
  EXPECT_EQ(pictures.at(0).width, 512);
  EXPECT_LT(PeakGb(), 20);
}

}  // namespace
}  // namespace loupe::worker::models
