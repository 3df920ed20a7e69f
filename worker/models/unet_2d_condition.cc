#include "worker/models/unet_2d_condition.h"

#include <utility>

#include "worker/nn/shared_prefix.h"
#include "worker/runtime/recompute.h"

namespace loupe::worker::models {
namespace {

// The time embedding's width is four times the first level's (diffusers' rule; time_embedding_dim is not supported).
int64_t TimeWidth(const UNet2DConditionConfig& config) { return 4 * config.levels.front().channels; }

nn::ResnetBlock2D MakeResnet(const UNet2DConditionConfig& config, int64_t in, int64_t out) {
  return nn::ResnetBlock2D(nn::ResnetBlock2DOptions{.in_channels = in,
                                                    .out_channels = out,
                                                    .time_width = TimeWidth(config),
                                                    .norm_num_groups = config.norm_num_groups,
                                                    .norm_eps = config.norm_eps});
}

nn::Transformer2DModel MakeTransformer(const UNet2DConditionConfig& config, const UNetLevel& level) {
  return nn::Transformer2DModel(nn::Transformer2DOptions{.channels = level.channels,
                                                         .context_width = config.cross_attention_dim,
                                                         .heads = level.heads,
                                                         .layers = level.transformer_layers,
                                                         .norm_num_groups = config.norm_num_groups,
                                                         .use_linear_projection = config.use_linear_projection});
}

torch::Tensor RunResnet(torch::nn::ModuleList& resnets, size_t i, const torch::Tensor& x,
                        const torch::Tensor& time_silu) {
  const auto module = resnets[i];
  return runtime::Recomputed(
      [module](const auto& stream, const auto& time) {
        return module->template as<nn::ResnetBlock2DImpl>()->forward(stream, time);
      },
      x, time_silu);
}

torch::Tensor RunTransformer(torch::nn::ModuleList& attentions, size_t i, const torch::Tensor& x,
                             const torch::Tensor& context, nn::ContextCache* cache) {
  const auto module = attentions[i];
  return runtime::Recomputed(
      [module, cache](const auto& stream, const auto& text) {
        return module->template as<nn::Transformer2DModelImpl>()->forward(stream, text, cache);
      },
      x, context);
}

}  // namespace

UNetDownBlockImpl::UNetDownBlockImpl(const UNet2DConditionConfig& config, size_t level) {
  const UNetLevel& here = config.levels[level];
  int64_t in = level == 0 ? here.channels : config.levels[level - 1].channels;
  for (int64_t i = 0; i < here.resnets; ++i) {
    resnets_->push_back(MakeResnet(config, in, here.channels));
    if (here.down_attention) attentions_->push_back(MakeTransformer(config, here));
    in = here.channels;
  }
  register_module("resnets", resnets_);
  if (here.down_attention) register_module("attentions", attentions_);
  if (level + 1 < config.levels.size()) {
    downsampler_ = nn::Downsample2D(here.channels, /*pad_right_below_only=*/false);
    register_module("downsamplers", torch::nn::ModuleList(downsampler_));
  }
}

torch::Tensor UNetDownBlockImpl::forward(torch::Tensor x, const torch::Tensor& time_silu, const torch::Tensor& context,
                                         nn::ContextCache* cache, std::vector<torch::Tensor>& skips) {
  for (size_t i = 0; i < resnets_->size(); ++i) {
    x = RunResnet(resnets_, i, x, time_silu);
    if (!attentions_->is_empty()) x = RunTransformer(attentions_, i, x, context, cache);
    skips.push_back(x);
  }
  if (!downsampler_.is_empty()) {
    x = downsampler_(x);
    skips.push_back(x);
  }
  return x;
}

UNetMidBlockImpl::UNetMidBlockImpl(const UNet2DConditionConfig& config) {
  const UNetLevel& lowest = config.levels.back();
  resnets_->push_back(MakeResnet(config, lowest.channels, lowest.channels));
  resnets_->push_back(MakeResnet(config, lowest.channels, lowest.channels));
  attentions_->push_back(MakeTransformer(config, lowest));
  register_module("resnets", resnets_);
  register_module("attentions", attentions_);
}

torch::Tensor UNetMidBlockImpl::forward(torch::Tensor x, const torch::Tensor& time_silu, const torch::Tensor& context,
                                        nn::ContextCache* cache) {
  x = RunResnet(resnets_, 0, x, time_silu);
  x = RunTransformer(attentions_, 0, x, context, cache);
  return RunResnet(resnets_, 1, x, time_silu);
}

UNetUpBlockImpl::UNetUpBlockImpl(const UNet2DConditionConfig& config, size_t level) {
  const UNetLevel& here = config.levels[level];
  const bool lowest = level + 1 == config.levels.size();
  const int64_t below = lowest ? here.channels : config.levels[level + 1].channels;
  // The last skip of a level came in from the level above (its downsampler, or conv_in).
  const int64_t last_skip = level == 0 ? here.channels : config.levels[level - 1].channels;
  for (int64_t i = 0; i <= here.resnets; ++i) {
    const int64_t stream = i == 0 ? below : here.channels;
    const int64_t skip = i == here.resnets ? last_skip : here.channels;
    resnets_->push_back(MakeResnet(config, stream + skip, here.channels));
    if (here.up_attention) attentions_->push_back(MakeTransformer(config, here));
  }
  register_module("resnets", resnets_);
  if (here.up_attention) register_module("attentions", attentions_);
  if (level > 0) {
    upsampler_ = nn::Upsample2D(here.channels);
    register_module("upsamplers", torch::nn::ModuleList(upsampler_));
  }
}

torch::Tensor UNetUpBlockImpl::forward(torch::Tensor x, const torch::Tensor& time_silu, const torch::Tensor& context,
                                       nn::ContextCache* cache, std::vector<torch::Tensor>& skips) {
  for (size_t i = 0; i < resnets_->size(); ++i) {
    x = RunResnet(resnets_, i, torch::cat({x, skips.back()}, 1), time_silu);
    skips.pop_back();
    if (!attentions_->is_empty()) x = RunTransformer(attentions_, i, x, context, cache);
  }
  if (upsampler_.is_empty()) return x;
  // The size of the skip it will meet: twice its own, but for sizes that did not halve evenly on the way down.
  return upsampler_(x, std::pair{skips.back().size(2), skips.back().size(3)});
}

UNet2DConditionModelImpl::UNet2DConditionModelImpl(UNet2DConditionConfig config) : config_(std::move(config)) {
  const int64_t first = config_.levels.front().channels;
  conv_in_ =
      register_module("conv_in", nn::Conv2d(config_.in_channels, first, /*kernel=*/3, /*stride=*/1, /*padding=*/1));
  time_embedding_ = register_module("time_embedding", nn::TimestepEmbedding(first, TimeWidth(config_)));
  if (config_.pooled_width > 0) {
    const int64_t told = config_.pooled_width + AddedCondition::kSizes * config_.addition_time_embed_dim;
    add_embedding_ = register_module("add_embedding", nn::TimestepEmbedding(told, TimeWidth(config_)));
  }
  for (size_t level = 0; level < config_.levels.size(); ++level) {
    down_blocks_->push_back(UNetDownBlock(config_, level));
  }
  for (size_t level = config_.levels.size(); level-- > 0;) up_blocks_->push_back(UNetUpBlock(config_, level));
  register_module("down_blocks", down_blocks_);
  mid_block_ = register_module("mid_block", UNetMidBlock(config_));
  register_module("up_blocks", up_blocks_);
  conv_norm_out_ = register_module("conv_norm_out", nn::GroupNorm(config_.norm_num_groups, first, config_.norm_eps));
  conv_out_ =
      register_module("conv_out", nn::Conv2d(first, config_.out_channels, /*kernel=*/3, /*stride=*/1, /*padding=*/1));
}

torch::Tensor UNet2DConditionModelImpl::EmbedTime(const torch::Tensor& timesteps, const AddedCondition& added,
                                                  torch::ScalarType dtype) {
  const auto sinusoids = [&](const torch::Tensor& values, int64_t width) {
    return nn::SinusoidalEmbedding(values, width, config_.flip_sin_to_cos, config_.freq_shift).to(dtype);
  };
  torch::Tensor time = time_embedding_(sinusoids(timesteps, config_.levels.front().channels));
  if (config_.pooled_width == 0) return time;
  TORCH_CHECK(added.pooled.defined() && added.sizes.defined(), "UNet: it is to be told a pooled text and sizes too");
  const auto sizes = sinusoids(added.sizes.flatten(), config_.addition_time_embed_dim).view({added.sizes.size(0), -1});
  return time + add_embedding_(torch::cat({added.pooled, sizes.expand({added.pooled.size(0), -1})}, 1));
}

torch::Tensor UNet2DConditionModelImpl::forward(const torch::Tensor& latents, const torch::Tensor& timesteps,
                                                const torch::Tensor& context, nn::ContextCache* cache,
                                                const AddedCondition& added) {
  const bool plain_time = time_embedding_->untouched() && (add_embedding_.is_empty() || add_embedding_->untouched());
  const auto embed_time = [&](const torch::Tensor& steps, const torch::Tensor& pooled, const torch::Tensor& sizes) {
    return torch::silu(EmbedTime(steps, {pooled, sizes}, latents.scalar_type()));
  };
  const auto time_silu =
      nn::SharedOr(time_embedding_.get(), plain_time, embed_time, timesteps, added.pooled, added.sizes);

  auto x = nn::SharedOr(
      conv_in_.get(), conv_in_->slot.empty(), [&](const torch::Tensor& in) { return conv_in_(in); }, latents);
  std::vector<torch::Tensor> skips{x};
  for (const auto& block : *down_blocks_) {
    x = block->as<UNetDownBlockImpl>()->forward(x, time_silu, context, cache, skips);
  }
  x = mid_block_(x, time_silu, context, cache);
  for (const auto& block : *up_blocks_) {
    x = block->as<UNetUpBlockImpl>()->forward(x, time_silu, context, cache, skips);
  }
  return conv_out_(conv_norm_out_->ThenSilu(x));
}

}  // namespace loupe::worker::models
