// UNet2DConditionModel: the noise predictor of Stable Diffusion v1 and v2 (Rombach et al. 2022, arXiv 2112.10752) and
// XL (Podell et al. 2023, arXiv 2307.01952), under diffusers' name and with its checkpoint keys.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/nn/resnet_block_2d.h"
#include "worker/nn/time_embedding.h"
#include "worker/nn/transformer_2d.h"

namespace loupe::worker::models {

// One resolution of the network, from the outside in.
struct UNetLevel {
  int64_t channels = 0;
  int64_t heads = 0;
  int64_t resnets = 0;             // down; the way up has one more
  int64_t transformer_layers = 1;  // BasicTransformerBlocks in each Transformer2DModel
  bool down_attention = false;     // CrossAttnDownBlock2D rather than DownBlock2D
  bool up_attention = false;       // CrossAttnUpBlock2D rather than UpBlock2D, on the way up at this resolution
};

struct UNet2DConditionConfig {
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  int64_t sample_size = 64;  // latents' height and width that the network was trained on
  int64_t cross_attention_dim = 768;
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;
  bool use_linear_projection = false;
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
  // Stable Diffusion XL's addition_embed_type "text_time"; 0: nothing is told besides.
  int64_t pooled_width = 0;             // of AddedCondition::pooled
  int64_t addition_time_embed_dim = 0;  // sinusoids of each of AddedCondition::sizes
  std::vector<UNetLevel> levels;

  // From unet/config.json. Supported is the arithmetic of Stable Diffusion v1, v2 and XL, in any width and
  // depth; INVALID_ARGUMENT names file, key, value and what is supported, for every setting that would change it.
  static absl::StatusOr<UNet2DConditionConfig> Read(const std::string& path);
};

// What Stable Diffusion XL's network is told besides the context and the time (its §2.2); empty for the others.
struct AddedCondition {
  static constexpr int64_t kSizes = 6;

  torch::Tensor pooled;  // [N, pooled_width]: the second text tower's vector of the whole prompt
  // [N, kSizes] or [1, kSizes], any number type, in pixels: height and width of the picture that was cut and scaled,
  // top and left of the cut, height and width that are wanted.
  torch::Tensor sizes;
};

// Residual blocks, each followed by a transformer if the level has attention, then a downsampler unless it is the last.
class UNetDownBlockImpl : public torch::nn::Module {
 public:
  UNetDownBlockImpl(const UNet2DConditionConfig& config, size_t level);
  // Appends every output to `skips`.
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& time_silu, const torch::Tensor& context,
                        nn::ContextCache* cache, std::vector<torch::Tensor>& skips);

 private:
  torch::nn::ModuleList resnets_, attentions_;
  nn::Downsample2D downsampler_{nullptr};
};
TORCH_MODULE(UNetDownBlock);

// Residual block, transformer, residual block at the lowest resolution (UNetMidBlock2DCrossAttn).
class UNetMidBlockImpl : public torch::nn::Module {
 public:
  explicit UNetMidBlockImpl(const UNet2DConditionConfig& config);
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& time_silu, const torch::Tensor& context,
                        nn::ContextCache* cache);

 private:
  torch::nn::ModuleList resnets_, attentions_;
};
TORCH_MODULE(UNetMidBlock);

// The mirror image: each residual block reads the stream and one skip, side by side in channels.
class UNetUpBlockImpl : public torch::nn::Module {
 public:
  UNetUpBlockImpl(const UNet2DConditionConfig& config, size_t level);
  // Takes its skips from the back of `skips`.
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& time_silu, const torch::Tensor& context,
                        nn::ContextCache* cache, std::vector<torch::Tensor>& skips);

 private:
  torch::nn::ModuleList resnets_, attentions_;
  nn::Upsample2D upsampler_{nullptr};
};
TORCH_MODULE(UNetUpBlock);

class UNet2DConditionModelImpl : public torch::nn::Module {
 public:
  explicit UNet2DConditionModelImpl(UNet2DConditionConfig config);

  // Predicted noise (or v, as the base was trained). latents: [N, in_channels, H, W]; timesteps: [N] or [1], any number
  // type; context: [N, text tokens, cross_attention_dim]. Returns [N, out_channels, H, W] in the latents' dtype. H and
  // W need not be multiples of anything. `cache`: see ContextCache. `added`: where config().pooled_width is not 0.
  torch::Tensor forward(const torch::Tensor& latents, const torch::Tensor& timesteps, const torch::Tensor& context,
                        nn::ContextCache* cache = nullptr, const AddedCondition& added = {});

  const UNet2DConditionConfig& config() const { return config_; }

 private:
  torch::Tensor EmbedTime(const torch::Tensor& timesteps, const AddedCondition& added, torch::ScalarType dtype);

  UNet2DConditionConfig config_;
  nn::Conv2d conv_in_{nullptr}, conv_out_{nullptr};
  nn::TimestepEmbedding time_embedding_{nullptr}, add_embedding_{nullptr};
  torch::nn::ModuleList down_blocks_, up_blocks_;
  UNetMidBlock mid_block_{nullptr};
  nn::GroupNorm conv_norm_out_{nullptr};
};
TORCH_MODULE(UNet2DConditionModel);

}  // namespace loupe::worker::models
