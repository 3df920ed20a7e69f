// Multi-head attention and the gated feed-forward of diffusers' transformer blocks, by their checkpoint names.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>

#include "worker/nn/leaf_layers.h"

namespace loupe::worker::nn {

// What attention reads: keys and values, [N, heads, tokens, head width].
struct KeysValues {
  torch::Tensor keys;
  torch::Tensor values;
};

// softmax(Q Kᵀ / √head_width) V per head, then an output projection (Vaswani et al. 2017, arXiv 1706.03762).
// Keys in the checkpoint: to_q, to_k, to_v, to_out.0.
class AttentionImpl : public torch::nn::Module {
 public:
  // `width` = heads · head width. `qkv_bias`: whether to_q, to_k and to_v carry a bias (the VAE's do, the UNet's not).
  AttentionImpl(int64_t width, int64_t context_width, int64_t heads, bool qkv_bias);

  // x: [N, tokens, width]; context: [N, context tokens, context_width]; returns [N, tokens, width].
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& context);

  // The two halves of forward: keys and values may be kept while the context stays the same.
  KeysValues Project(const torch::Tensor& context);
  torch::Tensor Attend(const torch::Tensor& x, const KeysValues& context);

  // No method has a hook in its layers.
  bool untouched() const;

 private:
  torch::Tensor SplitHeads(const torch::Tensor& x) const;

  int64_t heads_;
  Linear to_q_{nullptr}, to_k_{nullptr}, to_v_{nullptr};
  torch::nn::ModuleList to_out_;
};
TORCH_MODULE(Attention);

enum class FeedForwardKind {
  kGeglu,     // (u · gelu(g)) W + b with [u, g] = x V + c (GEGLU, Shazeer 2020, arXiv 2002.05202)
  kGeluTanh,  // gelu(x V + c) W + b, the gelu by its tanh form (Hendrycks & Gimpel 2016, arXiv 1606.08415)
};

// A layer of 4·width hidden values. Keys in the checkpoint: net.0.proj, net.2.
class FeedForwardImpl : public torch::nn::Module {
 public:
  explicit FeedForwardImpl(int64_t width, FeedForwardKind kind = FeedForwardKind::kGeglu);
  // x: [..., width] → [..., width].
  torch::Tensor forward(const torch::Tensor& x);

  // No method has a hook in its layers.
  bool untouched() const { return in_->slot.empty() && out_->slot.empty(); }

 private:
  const FeedForwardKind kind_;
  Linear in_{nullptr}, out_{nullptr};
};
TORCH_MODULE(FeedForward);

}  // namespace loupe::worker::nn
