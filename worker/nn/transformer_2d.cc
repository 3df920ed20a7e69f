#include "worker/nn/transformer_2d.h"

namespace loupe::worker {

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
  return {std::move(name), BlockKind::kTransformer, width_, width_, context_width_, norm_num_groups_, &taps};
}

KeysValues BasicTransformerBlockImpl::ContextKeysValues(const TapPass& tap, const torch::Tensor& context,
                                                        ContextCache* cache) {
  if (cache == nullptr) return attn2_->Project(tap(Tap::kCaC, context));
  if (const KeysValues* kept = cache->Find(this)) return *kept;
  return cache->Keep(this, attn2_->Project(tap(Tap::kCaC, context)));
}

torch::Tensor BasicTransformerBlockImpl::forward(torch::Tensor x, const torch::Tensor& context, ContextCache* cache) {
  const TapPass tap(taps);
  x = tap(Tap::kSaIn, x);
  const auto normed = norm1_(x);
  x = x + tap(Tap::kSaOut, attn1_(normed, normed));
  x = tap(Tap::kCaIn, x);
  const KeysValues context_kv = ContextKeysValues(tap, context, cache);
  x = x + tap(Tap::kCaOut, attn2_->Attend(norm2_(x), context_kv));
  x = tap(Tap::kFfnIn, x);
  x = x + tap(Tap::kFfnOut, ff_(norm3_(x)));
  return tap(Tap::kTransOut, x);
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
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  // Channels-last memory makes both permutations views.
  const auto to_tokens = [&](const torch::Tensor& y) { return y.permute({0, 2, 3, 1}).reshape({n, h * w, c}); };
  const auto to_image = [&](const torch::Tensor& y) { return y.reshape({n, h, w, c}).permute({0, 3, 1, 2}); };

  auto y = norm_(x);
  y = linear_ ? linear_in_(to_tokens(y)) : to_tokens(conv_in_(y));
  for (const auto& block : *blocks_) y = block->as<BasicTransformerBlockImpl>()->forward(y, context, cache);
  y = linear_ ? to_image(linear_out_(y)) : conv_out_(to_image(y));
  return y + x;
}

}  // namespace loupe::worker
