#include "worker/nn/transformer_2d.h"

#include "worker/nn/shared_prefix.h"

namespace loupe::worker::nn {

BasicTransformerBlockImpl::BasicTransformerBlockImpl(int64_t width, int64_t context_width, int64_t heads,
                                                     int64_t norm_num_groups)
    : width_(width),
      context_width_(context_width),
      norm_num_groups_(norm_num_groups),
      norm1_(register_module("norm1", LayerNorm(width))),
      norm2_(register_module("norm2", LayerNorm(width))),
      norm3_(register_module("norm3", LayerNorm(width))),
      attn1_(register_module("attn1", Attention(width, width, heads, /*qkv_bias=*/false))),
      attn2_(register_module("attn2", Attention(width, context_width, heads, /*qkv_bias=*/false))),
      ff_(register_module("ff", FeedForward(width))) {}

TappableBlock BasicTransformerBlockImpl::Describe(std::string name) {
  return {.name = std::move(name),
          .kind = BlockKind::kTransformer,
          .in_width = width_,
          .out_width = width_,
          .context_width = context_width_,
          .norm_num_groups = norm_num_groups_,
          .slot = &taps,
          .takes_prefix = true};
}

KeysValues BasicTransformerBlockImpl::ContextKeysValues(const TapPass& tap, const torch::Tensor& context,
                                                        ContextCache* cache) {
  if (cache == nullptr) return attn2_->Project(tap(Tap::kCaC, context));
  if (const KeysValues* kept = cache->Find(this)) return *kept;
  return cache->Keep(this, attn2_->Project(tap(Tap::kCaC, context)));
}

torch::Tensor BasicTransformerBlockImpl::forward(torch::Tensor x, const torch::Tensor& context, ContextCache* cache) {
  const TapPass tap(taps);
  x = tap(Tap::kSaIn, tap.WithPrefix(x));
  // Parts are named by the address of a layer in them, sums by that of the norm behind them.
  const auto add = [&](const void* part, const torch::Tensor& change) {
    x = SharedOr(
        part, true, [](const torch::Tensor& in, const torch::Tensor& its_change) { return in + its_change; }, x,
        change);
  };
  const auto attend_self = [&](const torch::Tensor& in) {
    const auto normed = norm1_(in);
    return attn1_(normed, normed);
  };
  add(norm2_.get(),
      tap(Tap::kSaOut, SharedOr(attn1_.get(), norm1_->slot.empty() && attn1_->untouched(), attend_self, x)));
  x = tap(Tap::kCaIn, x);
  const KeysValues context_kv = ContextKeysValues(tap, context, cache);
  const auto attend_context = [&](const torch::Tensor& in, const torch::Tensor& keys, const torch::Tensor& values) {
    return attn2_->Attend(norm2_(in), {keys, values});
  };
  add(norm3_.get(), tap(Tap::kCaOut, SharedOr(attn2_.get(), norm2_->slot.empty() && attn2_->untouched(), attend_context,
                                              x, context_kv.keys, context_kv.values)));
  x = tap(Tap::kFfnIn, x);
  const auto feed = [&](const torch::Tensor& in) { return ff_(norm3_(in)); };
  add(this, tap(Tap::kFfnOut, SharedOr(ff_.get(), norm3_->slot.empty() && ff_->untouched(), feed, x)));
  return tap.WithoutPrefix(tap(Tap::kTransOut, x));
}

Transformer2DModelImpl::Transformer2DModelImpl(const Transformer2DOptions& options)
    : linear_(options.use_linear_projection),
      // diffusers fixes this eps, whatever the network's norm_eps.
      norm_(register_module("norm", GroupNorm(options.norm_num_groups, options.channels, 1e-6))) {
  const int64_t c = options.channels;
  if (linear_) {
    linear_in_ = register_module("proj_in", Linear(c, c));
  } else {
    conv_in_ = register_module("proj_in", Conv2d(c, c, /*kernel=*/1));
  }
  for (int64_t i = 0; i < options.layers; ++i) {
    blocks_->push_back(BasicTransformerBlock(c, options.context_width, options.heads, options.norm_num_groups));
  }
  register_module("transformer_blocks", blocks_);
  if (linear_) {
    linear_out_ = register_module("proj_out", Linear(c, c));
  } else {
    conv_out_ = register_module("proj_out", Conv2d(c, c, /*kernel=*/1));
  }
}

torch::Tensor Transformer2DModelImpl::forward(const torch::Tensor& x, const torch::Tensor& context,
                                              ContextCache* cache) {
  const int64_t c = x.size(1), h = x.size(2), w = x.size(3);
  // Channels-last memory makes both permutations views.
  const auto to_tokens = [&](const torch::Tensor& y) { return y.permute({0, 2, 3, 1}).reshape({-1, h * w, c}); };
  const auto to_image = [&](const torch::Tensor& y) { return y.reshape({-1, h, w, c}).permute({0, 3, 1, 2}); };

  const auto enter = [&](const torch::Tensor& in) {
    const auto normed = norm_(in);
    return linear_ ? linear_in_(to_tokens(normed)) : to_tokens(conv_in_(normed));
  };
  const bool plain_in = norm_->slot.empty() && (linear_ ? linear_in_->slot.empty() : conv_in_->slot.empty());
  auto y = SharedOr(norm_.get(), plain_in, enter, x);
  for (const auto& block : *blocks_) y = block->as<BasicTransformerBlockImpl>()->forward(y, context, cache);
  const auto leave = [&](const torch::Tensor& skip, const torch::Tensor& change) {
    return (linear_ ? to_image(linear_out_(change)) : conv_out_(to_image(change))) + skip;
  };
  return SharedOr(this, linear_ ? linear_out_->slot.empty() : conv_out_->slot.empty(), leave, x, y);
}

}  // namespace loupe::worker::nn
