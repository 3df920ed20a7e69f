// AutoencoderKL: between pictures and the latents that the diffusion runs in (Rombach et al. 2022, arXiv 2112.10752),
// under diffusers' name and with its checkpoint keys.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/nn/attention.h"
#include "worker/nn/resnet_block_2d.h"

namespace loupe::worker::models {

struct AutoencoderKLConfig {
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t latent_channels = 4;
  int64_t layers_per_block = 1;  // on the way down; the way up has one more
  int64_t norm_num_groups = 32;
  int64_t sample_size = 512;                // pixels that it was trained on
  double scaling_factor = 0.18215;          // latents_scaled = scaling_factor · latents
  std::vector<int64_t> block_out_channels;  // outside in; every block but the last halves the resolution
  bool mid_block_add_attention = true;

  // Pixels per latent, along each axis.
  int64_t downscale() const { return int64_t{1} << (block_out_channels.size() - 1); }

  // From vae/config.json. INVALID_ARGUMENT names file, key, value and what is supported.
  static absl::StatusOr<AutoencoderKLConfig> Read(const std::string& path);
};

// Residual block, attention of one head over the pixels (unless turned off), residual block.
class VaeMidBlockImpl : public torch::nn::Module {
 public:
  explicit VaeMidBlockImpl(const AutoencoderKLConfig& config);
  torch::Tensor forward(torch::Tensor x);

 private:
  torch::nn::ModuleList resnets_, attentions_;
};
TORCH_MODULE(VaeMidBlock);

class VaeEncoderImpl : public torch::nn::Module {
 public:
  explicit VaeEncoderImpl(const AutoencoderKLConfig& config);
  torch::Tensor forward(torch::Tensor x);

 private:
  nn::Conv2d conv_in_{nullptr}, conv_out_{nullptr};
  torch::nn::ModuleList down_blocks_;
  VaeMidBlock mid_block_{nullptr};
  nn::GroupNorm conv_norm_out_{nullptr};
};
TORCH_MODULE(VaeEncoder);

class VaeDecoderImpl : public torch::nn::Module {
 public:
  explicit VaeDecoderImpl(const AutoencoderKLConfig& config);
  torch::Tensor forward(torch::Tensor x);

 private:
  nn::Conv2d conv_in_{nullptr}, conv_out_{nullptr};
  VaeMidBlock mid_block_{nullptr};
  torch::nn::ModuleList up_blocks_;
  nn::GroupNorm conv_norm_out_{nullptr};
};
TORCH_MODULE(VaeDecoder);

// A diagonal Gaussian over latents, [N, latent_channels, H/f, W/f] each, not yet scaled.
struct LatentDistribution {
  torch::Tensor mean;
  torch::Tensor logvar;  // clamped to [−30, 20]

  // mean + exp(logvar/2)·noise; noise ~ N(0, 1) of the mean's shape.
  torch::Tensor Sample(const torch::Tensor& noise) const { return mean + torch::exp(0.5 * logvar) * noise; }
};

class AutoencoderKLImpl : public torch::nn::Module {
 public:
  explicit AutoencoderKLImpl(AutoencoderKLConfig config);

  // pictures: [N, 3, H, W] in [−1, 1], H and W multiples of downscale().
  LatentDistribution Encode(const torch::Tensor& pictures);
  // latents: [N, latent_channels, H/f, W/f], not scaled. Returns [N, 3, H, W], about [−1, 1], not clamped.
  torch::Tensor Decode(const torch::Tensor& latents);

  // What the UNet sees, and back.
  torch::Tensor Scale(const torch::Tensor& latents) const { return latents * config_.scaling_factor; }
  torch::Tensor DecodeScaled(const torch::Tensor& latents_scaled) {
    return Decode(latents_scaled / config_.scaling_factor);
  }

  const AutoencoderKLConfig& config() const { return config_; }

 private:
  AutoencoderKLConfig config_;
  VaeEncoder encoder_{nullptr};
  VaeDecoder decoder_{nullptr};
  nn::Conv2d quant_conv_{nullptr}, post_quant_conv_{nullptr};
};
TORCH_MODULE(AutoencoderKL);

}  // namespace loupe::worker::models
