#include "worker/nn/resnet_block_2d.h"

#include <vector>

#include "worker/nn/shared_prefix.h"

namespace loupe::worker::nn {

ResnetBlock2DImpl::ResnetBlock2DImpl(const ResnetBlock2DOptions& options) : options_(options) {
  const int64_t in = options.in_channels, out = options.out_channels;
  norm1_ = register_module("norm1", GroupNorm(options.norm_num_groups, in, options.norm_eps));
  conv1_ = register_module("conv1", Conv2d(in, out, /*kernel=*/3, /*stride=*/1, /*padding=*/1));
  if (options.time_width > 0) time_emb_proj_ = register_module("time_emb_proj", Linear(options.time_width, out));
  norm2_ = register_module("norm2", GroupNorm(options.norm_num_groups, out, options.norm_eps));
  conv2_ = register_module("conv2", Conv2d(out, out, /*kernel=*/3, /*stride=*/1, /*padding=*/1));
  if (in != out) conv_shortcut_ = register_module("conv_shortcut", Conv2d(in, out, /*kernel=*/1));
}

TappableBlock ResnetBlock2DImpl::Describe(std::string name) {
  return {std::move(name),       BlockKind::kResidual,     options_.in_channels,
          options_.out_channels,
          /*context_width=*/0,   options_.norm_num_groups, &taps};
}

torch::Tensor ResnetBlock2DImpl::forward(torch::Tensor x, const torch::Tensor& time_silu) {
  const TapPass tap(taps);
  x = tap(Tap::kResIn, x);
  auto h = SharedOr(
      conv1_.get(), norm1_->slot.empty() && conv1_->slot.empty(),
      [&](const torch::Tensor& in) { return conv1_(norm1_->ThenSilu(in)); }, x);
  torch::Tensor time;
  if (!time_emb_proj_.is_empty()) {
    time = SharedOr(
        time_emb_proj_.get(), time_emb_proj_->slot.empty(),
        [&](const torch::Tensor& in) { return time_emb_proj_(in).unsqueeze(-1).unsqueeze(-1); }, time_silu);
  }
  h = SharedOr(
      conv2_.get(), norm2_->slot.empty() && conv2_->slot.empty(),
      [&](const torch::Tensor& in, const torch::Tensor& its_time) {
        return conv2_(norm2_->ThenSilu(its_time.defined() ? in + its_time : in));
      },
      h, time);
  const bool plain_skip = conv_shortcut_.is_empty();
  const auto sum = [&](const torch::Tensor& skip, const torch::Tensor& change) {
    return (plain_skip ? skip : conv_shortcut_(skip)) + change;
  };
  return tap(Tap::kResOut, SharedOr(this, plain_skip || conv_shortcut_->slot.empty(), sum, x, h));
}

Downsample2DImpl::Downsample2DImpl(int64_t channels, bool pad_right_below_only)
    : pad_right_below_only_(pad_right_below_only),
      conv_(register_module(
          "conv", Conv2d(channels, channels, /*kernel=*/3, /*stride=*/2, /*padding=*/pad_right_below_only ? 0 : 1))) {}

torch::Tensor Downsample2DImpl::forward(const torch::Tensor& x) {
  const auto halved = [&](const torch::Tensor& in) {
    return conv_(pad_right_below_only_ ? torch::constant_pad_nd(in, {0, 1, 0, 1}) : in);
  };
  return SharedOr(conv_.get(), conv_->slot.empty(), halved, x);
}

Upsample2DImpl::Upsample2DImpl(int64_t channels)
    : conv_(register_module("conv", Conv2d(channels, channels, /*kernel=*/3, /*stride=*/1, /*padding=*/1))) {}

torch::Tensor Upsample2DImpl::forward(const torch::Tensor& x, std::optional<std::pair<int64_t, int64_t>> size) {
  const auto [h, w] = size.value_or(std::pair{2 * x.size(2), 2 * x.size(3)});
  return conv_(torch::upsample_nearest2d(x, {h, w}));
}

}  // namespace loupe::worker::nn
