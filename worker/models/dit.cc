#include "worker/models/dit.h"

#include "worker/runtime/recompute.h"

namespace loupe::worker::models {
DiTBlockImpl::DiTBlockImpl(const DiTConfig& config, bool with_embedding)
    : width_(config.width()), norm_eps_(config.norm_eps) {
  modulation_ = register_module("norm1", nn::AdaModulation(width_, 6));
  if (with_embedding) {
    embedding_ =
        modulation_->register_module("emb", nn::TimestepClassEmbedding(config.classes, width_, config.time_freq_shift));
  }
  attn1_ = register_module("attn1", nn::Attention(width_, width_, config.heads, /*qkv_bias=*/true));
  ff_ = register_module("ff", nn::FeedForward(width_, nn::FeedForwardKind::kGeluTanh));
}

nn::TappableBlock DiTBlockImpl::Describe(std::string name) {
  return {std::move(name),
          nn::BlockKind::kTransformer,
          width_,
          width_,
          /*context_width=*/0,
          /*norm_num_groups=*/1,
          &taps,
          {nn::Tap::kCaIn, nn::Tap::kCaC, nn::Tap::kCaOut},
          /*takes_prefix=*/true};
}

torch::Tensor DiTBlockImpl::Embed(const torch::Tensor& timesteps, const torch::Tensor& classes,
                                  torch::ScalarType dtype) {
  return embedding_(timesteps, classes, dtype);
}

torch::Tensor DiTBlockImpl::forward(torch::Tensor x, const torch::Tensor& condition_silu) {
  const nn::TapPass tap(taps);
  const auto m = modulation_(condition_silu);
  x = tap(nn::Tap::kSaIn, tap.WithPrefix(x));
  const auto normed = nn::Modulate(nn::PlainLayerNorm(x), m[0], m[1]);
  x = x + tap(nn::Tap::kSaOut, m[2].unsqueeze(1) * attn1_(normed, normed));
  x = tap(nn::Tap::kFfnIn, x);
  x = x + tap(nn::Tap::kFfnOut, m[5].unsqueeze(1) * ff_(nn::Modulate(nn::PlainLayerNorm(x, norm_eps_), m[3], m[4])));
  return tap.WithoutPrefix(tap(nn::Tap::kTransOut, x));
}

DiTTransformer2DModelImpl::DiTTransformer2DModelImpl(const DiTConfig& config) : config_(config) {
  const int64_t width = config_.width();
  pos_embed_ = register_module("pos_embed", nn::PatchEmbed(config_.in_channels, width, config_.patch_size,
                                                           config_.sample_size / config_.patch_size));
  for (int64_t i = 0; i < config_.layers; ++i) {
    transformer_blocks_->push_back(DiTBlock(config_, i == 0 || config_.separate_embeddings));
  }
  register_module("transformer_blocks", transformer_blocks_);
  proj_out_1_ = register_module("proj_out_1", nn::Linear(width, 2 * width));
  proj_out_2_ =
      register_module("proj_out_2", nn::Linear(width, config_.patch_size * config_.patch_size * config_.out_channels));
}

torch::Tensor DiTTransformer2DModelImpl::Unpatch(const torch::Tensor& tokens, int64_t rows, int64_t columns) const {
  const int64_t p = config_.patch_size, c = config_.out_channels;
  return tokens.reshape({tokens.size(0), rows, columns, p, p, c})
      .permute({0, 5, 1, 3, 2, 4})
      .reshape({tokens.size(0), c, rows * p, columns * p});
}

torch::Tensor DiTTransformer2DModelImpl::forward(const torch::Tensor& latents, const torch::Tensor& timesteps,
                                                 const torch::Tensor& classes, nn::PositionScaling scaling) {
  auto x = pos_embed_(latents, scaling);
  torch::Tensor first;
  for (size_t i = 0; i < transformer_blocks_->size(); ++i) {
    const auto block = transformer_blocks_[i];
    auto* const dit = block->as<DiTBlockImpl>();
    torch::Tensor condition = first;
    if (i == 0 || config_.separate_embeddings) {
      condition = torch::silu(dit->Embed(timesteps, classes, latents.scalar_type()));
    }
    if (i == 0) first = condition;
    x = runtime::Recomputed(
        [block](const auto& stream, const auto& silu) {
          return block->template as<DiTBlockImpl>()->forward(stream, silu);
        },
        x, condition);
  }
  const auto m = proj_out_1_(first).chunk(2, 1);
  x = proj_out_2_(nn::Modulate(nn::PlainLayerNorm(x), m[0], m[1]));
  return Unpatch(x, latents.size(2) / config_.patch_size, latents.size(3) / config_.patch_size);
}

}  // namespace loupe::worker::models
