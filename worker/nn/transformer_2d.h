// The transformer blocks of Stable Diffusion's UNet: BasicTransformerBlock (tappable) and Transformer2DModel around it.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>
#include <unordered_map>

#include "worker/nn/attention.h"
#include "worker/nn/leaf_layers.h"
#include "worker/nn/tappable.h"
#include "worker/nn/taps.h"

namespace loupe::worker::nn {

// Keys and values of the cross-attentions, kept over the steps of one sampling run, where the context stays the same.
// CA_c taps run only when an entry is made. Valid for one context, one set of weights and no gradients; not
// thread-safe.
class ContextCache {
 public:
  KeysValues* Find(const void* block) {
    const auto found = entries_.find(block);
    return found == entries_.end() ? nullptr : &found->second;
  }
  KeysValues& Keep(const void* block, KeysValues value) { return entries_[block] = std::move(value); }

 private:
  std::unordered_map<const void*, KeysValues> entries_;
};

// Self-attention, cross-attention, feed-forward, each after a LayerNorm and added to the stream; taps as in taps.h.
// Keys: norm1, attn1, norm2, attn2, norm3, ff.
class BasicTransformerBlockImpl : public torch::nn::Module, public Tappable {
 public:
  BasicTransformerBlockImpl(int64_t width, int64_t context_width, int64_t heads, int64_t norm_num_groups);

  // x: [N, tokens, width]; context: [N, text tokens, context_width]; `cache` may be null.
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& context, ContextCache* cache);

  TappableBlock Describe(std::string name) override;

  TapSlot taps;

 private:
  KeysValues ContextKeysValues(const TapPass& tap, const torch::Tensor& context, ContextCache* cache);

  int64_t width_, context_width_, norm_num_groups_;
  LayerNorm norm1_{nullptr}, norm2_{nullptr}, norm3_{nullptr};
  Attention attn1_{nullptr}, attn2_{nullptr};
  FeedForward ff_{nullptr};
};
TORCH_MODULE(BasicTransformerBlock);

// GroupNorm, projection in, the blocks over the H·W tokens, projection out, plus the input. The projections are 1×1
// convolutions or, with use_linear_projection, linear layers (the same arithmetic; only the checkpoint's shapes
// differ). Keys: norm, proj_in, transformer_blocks.N, proj_out.
struct Transformer2DOptions {
  int64_t channels = 0;
  int64_t context_width = 0;
  int64_t heads = 0;
  int64_t layers = 1;
  int64_t norm_num_groups = 32;
  bool use_linear_projection = false;
};

class Transformer2DModelImpl : public torch::nn::Module {
 public:
  explicit Transformer2DModelImpl(const Transformer2DOptions& options);
  // x: [N, channels, H, W]; context: [N, text tokens, context_width]; `cache` may be null.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& context, ContextCache* cache);

 private:
  bool linear_;
  GroupNorm norm_{nullptr};
  Conv2d conv_in_{nullptr}, conv_out_{nullptr};
  Linear linear_in_{nullptr}, linear_out_{nullptr};
  torch::nn::ModuleList blocks_;
};
TORCH_MODULE(Transformer2DModel);

}  // namespace loupe::worker::nn
