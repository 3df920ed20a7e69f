// Residual convolution blocks and resampling, by diffusers' names.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <optional>

#include "worker/nn/leaf_layers.h"
#include "worker/nn/tappable.h"
#include "worker/nn/taps.h"

namespace loupe::worker::nn {

struct ResnetBlock2DOptions {
  int64_t in_channels = 0;
  int64_t out_channels = 0;
  int64_t time_width = 0;  // width of the time embedding; 0: none (the VAE's blocks)
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;
};

// h = conv1(silu(norm1(x))) + time_emb_proj(silu(time)); h = conv2(silu(norm2(h))); skip(x) + h, where skip is a 1×1
// convolution if the widths differ. Taps as in taps.h. Keys: norm1, conv1, time_emb_proj, norm2, conv2, conv_shortcut.
class ResnetBlock2DImpl : public torch::nn::Module, public Tappable {
 public:
  explicit ResnetBlock2DImpl(const ResnetBlock2DOptions& options);

  // x: [N, C_in, H, W]; time_silu: silu of the time embedding, [N, time_width], undefined without one (the same for all
  // blocks, so the network takes the silu once). Returns [N, C_out, H, W].
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& time_silu);

  TappableBlock Describe(std::string name) override;

  TapSlot taps;

 private:
  ResnetBlock2DOptions options_;
  GroupNorm norm1_{nullptr}, norm2_{nullptr};
  Conv2d conv1_{nullptr}, conv2_{nullptr}, conv_shortcut_{nullptr};
  Linear time_emb_proj_{nullptr};
};
TORCH_MODULE(ResnetBlock2D);

// 3×3 convolution of stride 2. Padding 1 on all sides (UNet), or, for the VAE's encoder, one row below and one column
// to the right only. Key: conv.
class Downsample2DImpl : public torch::nn::Module {
 public:
  Downsample2DImpl(int64_t channels, bool pad_right_below_only);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  bool pad_right_below_only_;
  Conv2d conv_{nullptr};
};
TORCH_MODULE(Downsample2D);

// Nearest neighbour to `size` (H, W), twice the input by default, then a 3×3 convolution. Key: conv.
class Upsample2DImpl : public torch::nn::Module {
 public:
  explicit Upsample2DImpl(int64_t channels);
  torch::Tensor forward(const torch::Tensor& x, std::optional<std::pair<int64_t, int64_t>> size = std::nullopt);

 private:
  Conv2d conv_{nullptr};
};
TORCH_MODULE(Upsample2D);

}  // namespace loupe::worker::nn
