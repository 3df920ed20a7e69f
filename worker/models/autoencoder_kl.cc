#include "worker/models/autoencoder_kl.h"

#include <utility>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"

namespace loupe::worker::models {
namespace {

// diffusers fixes the VAE's eps.
constexpr double kNormEps = 1e-6;

nn::Conv2d Conv3x3(int64_t in, int64_t out) { return nn::Conv2d(in, out, /*kernel=*/3, /*stride=*/1, /*padding=*/1); }

nn::ResnetBlock2D MakeResnet(const AutoencoderKLConfig& config, int64_t in, int64_t out) {
  return nn::ResnetBlock2D(nn::ResnetBlock2DOptions{
      .in_channels = in, .out_channels = out, .norm_num_groups = config.norm_num_groups, .norm_eps = kNormEps});
}

torch::Tensor RunResnets(const torch::nn::ModuleList& resnets, torch::Tensor x) {
  for (const auto& resnet : *resnets) x = resnet->as<nn::ResnetBlock2DImpl>()->forward(x, {});
  return x;
}

// Attention over pixels, its own GroupNorm before and the input added after. Keys as in Attention, plus group_norm.
class PixelAttentionImpl : public nn::AttentionImpl {
 public:
  PixelAttentionImpl(int64_t channels, int64_t groups)
      : nn::AttentionImpl(channels, channels, /*heads=*/1, /*qkv_bias=*/true),
        group_norm_(register_module("group_norm", nn::GroupNorm(groups, channels, kNormEps))) {}

  torch::Tensor forward(const torch::Tensor& x) {
    const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
    const auto tokens = group_norm_(x).permute({0, 2, 3, 1}).reshape({n, h * w, c});
    return x + nn::AttentionImpl::forward(tokens, tokens).reshape({n, h, w, c}).permute({0, 3, 1, 2});
  }

 private:
  nn::GroupNorm group_norm_{nullptr};
};

// Residual blocks and a resampler: DownEncoderBlock2D and UpDecoderBlock2D by their parts' names.
class VaeDownBlockImpl : public torch::nn::Module {
 public:
  VaeDownBlockImpl(const AutoencoderKLConfig& config, int64_t in, int64_t out, bool halve) {
    for (int64_t i = 0; i < config.layers_per_block; ++i)
      resnets_->push_back(MakeResnet(config, i == 0 ? in : out, out));
    register_module("resnets", resnets_);
    if (!halve) return;
    downsampler_ = nn::Downsample2D(out, /*pad_right_below_only=*/true);
    register_module("downsamplers", torch::nn::ModuleList(downsampler_));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const auto y = RunResnets(resnets_, x);
    return downsampler_.is_empty() ? y : downsampler_(y);
  }

 private:
  torch::nn::ModuleList resnets_;
  nn::Downsample2D downsampler_{nullptr};
};

class VaeUpBlockImpl : public torch::nn::Module {
 public:
  VaeUpBlockImpl(const AutoencoderKLConfig& config, int64_t in, int64_t out, bool twice) {
    for (int64_t i = 0; i <= config.layers_per_block; ++i)
      resnets_->push_back(MakeResnet(config, i == 0 ? in : out, out));
    register_module("resnets", resnets_);
    if (!twice) return;
    upsampler_ = nn::Upsample2D(out);
    register_module("upsamplers", torch::nn::ModuleList(upsampler_));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const auto y = RunResnets(resnets_, x);
    return upsampler_.is_empty() ? y : upsampler_(y);
  }

 private:
  torch::nn::ModuleList resnets_;
  nn::Upsample2D upsampler_{nullptr};
};

}  // namespace

VaeMidBlockImpl::VaeMidBlockImpl(const AutoencoderKLConfig& config) {
  const int64_t c = config.block_out_channels.back();
  resnets_->push_back(MakeResnet(config, c, c));
  resnets_->push_back(MakeResnet(config, c, c));
  register_module("resnets", resnets_);
  if (!config.mid_block_add_attention) return;
  attentions_->push_back(std::make_shared<PixelAttentionImpl>(c, config.norm_num_groups));
  register_module("attentions", attentions_);
}

torch::Tensor VaeMidBlockImpl::forward(torch::Tensor x) {
  x = resnets_[0]->as<nn::ResnetBlock2DImpl>()->forward(x, {});
  if (!attentions_->is_empty()) x = attentions_[0]->as<PixelAttentionImpl>()->forward(x);
  return resnets_[1]->as<nn::ResnetBlock2DImpl>()->forward(x, {});
}

VaeEncoderImpl::VaeEncoderImpl(const AutoencoderKLConfig& config) {
  const auto& widths = config.block_out_channels;
  conv_in_ = register_module("conv_in", Conv3x3(config.in_channels, widths.front()));
  for (size_t i = 0; i < widths.size(); ++i) {
    down_blocks_->push_back(std::make_shared<VaeDownBlockImpl>(config, widths[i == 0 ? 0 : i - 1], widths[i],
                                                               /*halve=*/i + 1 < widths.size()));
  }
  register_module("down_blocks", down_blocks_);
  mid_block_ = register_module("mid_block", VaeMidBlock(config));
  conv_norm_out_ = register_module("conv_norm_out", nn::GroupNorm(config.norm_num_groups, widths.back(), kNormEps));
  // Mean and log variance, side by side in channels.
  conv_out_ = register_module("conv_out", Conv3x3(widths.back(), 2 * config.latent_channels));
}

torch::Tensor VaeEncoderImpl::forward(torch::Tensor x) {
  x = conv_in_(x);
  for (const auto& block : *down_blocks_) x = block->as<VaeDownBlockImpl>()->forward(x);
  return conv_out_(conv_norm_out_->ThenSilu(mid_block_(x)));
}

VaeDecoderImpl::VaeDecoderImpl(const AutoencoderKLConfig& config) {
  const auto& widths = config.block_out_channels;
  conv_in_ = register_module("conv_in", Conv3x3(config.latent_channels, widths.back()));
  mid_block_ = register_module("mid_block", VaeMidBlock(config));
  for (size_t i = widths.size(); i-- > 0;) {
    up_blocks_->push_back(std::make_shared<VaeUpBlockImpl>(config, widths[i + 1 == widths.size() ? i : i + 1],
                                                           widths[i],
                                                           /*twice=*/i > 0));
  }
  register_module("up_blocks", up_blocks_);
  conv_norm_out_ = register_module("conv_norm_out", nn::GroupNorm(config.norm_num_groups, widths.front(), kNormEps));
  conv_out_ = register_module("conv_out", Conv3x3(widths.front(), config.out_channels));
}

torch::Tensor VaeDecoderImpl::forward(torch::Tensor x) {
  x = mid_block_(conv_in_(x));
  for (const auto& block : *up_blocks_) x = block->as<VaeUpBlockImpl>()->forward(x);
  return conv_out_(conv_norm_out_->ThenSilu(x));
}

AutoencoderKLImpl::AutoencoderKLImpl(AutoencoderKLConfig config) : config_(std::move(config)) {
  const int64_t z = config_.latent_channels;
  encoder_ = register_module("encoder", VaeEncoder(config_));
  decoder_ = register_module("decoder", VaeDecoder(config_));
  quant_conv_ = register_module("quant_conv", nn::Conv2d(2 * z, 2 * z, /*kernel=*/1));
  post_quant_conv_ = register_module("post_quant_conv", nn::Conv2d(z, z, /*kernel=*/1));
}

LatentDistribution AutoencoderKLImpl::Encode(const torch::Tensor& pictures) {
  const auto parts = quant_conv_(encoder_(pictures)).chunk(2, 1);
  return {parts[0], parts[1].clamp(-30.0, 20.0)};
}

torch::Tensor AutoencoderKLImpl::Decode(const torch::Tensor& latents) { return decoder_(post_quant_conv_(latents)); }

absl::StatusOr<AutoencoderKLConfig> AutoencoderKLConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  json.MustBe("_class_name", {"AutoencoderKL"});
  json.MustBe("act_fn", {"silu"});
  json.MustBe("latents_mean", {nullptr});
  json.MustBe("latents_std", {nullptr});
  json.MustBe("shift_factor", {nullptr});
  json.MustBe("use_quant_conv", {true});
  json.MustBe("use_post_quant_conv", {true});
  json.Ignore({"force_upcast"});  // a precision: this program runs the VAE in float32
  AutoencoderKLConfig config;
  config.in_channels = json.Int("in_channels", 3);
  config.out_channels = json.Int("out_channels", 3);
  config.latent_channels = json.Int("latent_channels", 4);
  config.layers_per_block = json.Int("layers_per_block", 1);
  config.norm_num_groups = json.Int("norm_num_groups", 32);
  config.sample_size = json.Int("sample_size", 32);
  config.scaling_factor = json.Number("scaling_factor", 0.18215);
  config.mid_block_add_attention = json.Bool("mid_block_add_attention", true);
  config.block_out_channels = json.Ints("block_out_channels");
  const auto expect_all = [&](const char* key, const std::string& type) {
    const std::vector<std::string> expected(config.block_out_channels.size(), type);
    if (json.Strings(key) != expected) json.Refuse(key, fmt::format("{} times {}", expected.size(), type));
  };
  expect_all("down_block_types", "DownEncoderBlock2D");
  expect_all("up_block_types", "UpDecoderBlock2D");
  if (config.block_out_channels.empty() || config.block_out_channels.size() > 16) {
    json.Refuse("block_out_channels", "1 to 16 widths");
  }
  for (const int64_t width : config.block_out_channels) {
    if (width < 1 || config.norm_num_groups < 1 || width % config.norm_num_groups != 0) {
      json.Refuse("block_out_channels", fmt::format("multiples of norm_num_groups ({})", config.norm_num_groups));
    }
  }
  if (config.layers_per_block < 1) json.Refuse("layers_per_block", "at least 1");
  if (config.latent_channels < 1) json.Refuse("latent_channels", "at least 1");
  if (config.in_channels != 3) json.Refuse("in_channels", "3");
  if (config.out_channels != 3) json.Refuse("out_channels", "3");
  if (!(config.scaling_factor > 0)) json.Refuse("scaling_factor", "more than 0");
  LOUPE_RETURN_IF_ERROR(json.FinishStrictly());
  return config;
}

}  // namespace loupe::worker::models
