// The layers that hold weights: Linear, Conv2d, GroupNorm, LayerNorm, Embedding. They are torch.nn's layers of the same
// name with two differences. Construction leaves the weights uninitialised, since a network is nearly always filled
// from a checkpoint (860 M random numbers for Stable Diffusion v1 would be thrown away); InitialiseAsTorch gives
// torch.nn's own initial values to a network that is to be trained from nothing. And each has a slot where methods may
// hook in: a hook computes the layer's output for its trials' rows from its own values, and taking it away leaves the
// untouched base.
#pragma once

#include <torch/nn/module.h>

#include <array>
#include <cstdint>

#include "worker/nn/half_copy.h"
#include "worker/nn/kernel_functions.h"
#include "worker/nn/kernel_layers.h"
#include "worker/nn/pack_slot.h"

namespace loupe::worker::nn {

enum class LeafKind { kLinear, kConv2d, kGroupNorm, kLayerNorm, kEmbedding, kStateSpace };

// What a method puts into a layer's slot. Forward is called once for every forward of the layer, recomputation
// included, perhaps from several threads at a time. x: the rows of the hook's K slots, [K·B, …], trial-major.
class LayerHook {
 public:
  virtual ~LayerHook() = default;
  // Whether Forward goes on from what the layer itself gives for x. The layer is then computed once for all slots of a
  // pack whose hooks do.
  virtual bool extends() const = 0;
  // The output for x. `own`: the layer's own output for x where extends(), else undefined; not to be written into.
  virtual torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& own) const = 0;
};
using LayerSlot = PackSlot<const LayerHook>;

// Implemented by every layer here.
class LeafLayer {
 public:
  virtual ~LeafLayer() = default;
  virtual LeafKind kind() const = 0;
  // The layer's function with values of the caller's in place of its own: of a weight's shape but for the first
  // dimension (the outputs of Linear and Conv2d), and a bias that may be undefined. Calls no hook.
  virtual torch::Tensor Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& b) const = 0;
  // torch.nn's default initial values, drawn from `generator` (weight first, then bias).
  virtual void Reset(const at::Generator& generator) = 0;

  // The 16-bit copies of weight and bias that passes under autocast have; undefined where none was made.
  std::array<torch::Tensor, 2> half_copies() const { return {half_weight_.kept(), half_bias_.kept()}; }

  torch::Tensor weight;
  torch::Tensor bias;  // undefined without one
  LayerSlot slot;

 protected:
  // forward() where the slot is not empty: rows of slots without a hook are the layer's own.
  torch::Tensor Hooked(const torch::Tensor& x) const;
  // Values that Apply was given, in the type of this thread's passes where they are the layer's own.
  torch::Tensor WeightInPass(const torch::Tensor& w) const { return w.is_same(weight) ? half_weight_.Of(w) : w; }
  torch::Tensor BiasInPass(const torch::Tensor& b) const { return b.is_same(bias) ? half_bias_.Of(b) : b; }

 private:
  mutable HalfCopy half_weight_, half_bias_;
};

// Resets every LeafLayer under `root`, in registration order.
void InitialiseAsTorch(torch::nn::Module& root, const at::Generator& generator);

// y = x Wᵀ + b; weight [out, in], bias [out]. x: [..., in].
class LinearImpl : public torch::nn::Module, public LeafLayer {
 public:
  LinearImpl(int64_t in, int64_t out, bool with_bias = true);
  torch::Tensor forward(const torch::Tensor& x) { return slot.empty() ? Apply(x, weight, bias) : Hooked(x); }
  LeafKind kind() const override { return LeafKind::kLinear; }
  torch::Tensor Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& b) const override;
  void Reset(const at::Generator& generator) override;
  // out(between(forward(x))): in one pass where both layers are the base's own and frozen.
  torch::Tensor FeedForward(const torch::Tensor& x, kernels::BetweenProducts between, LinearImpl& out);

 private:
  mutable LinearKernel kernel_;
};
TORCH_MODULE(Linear);

// Square kernel, zero padding; weight [out, in, k, k]. x: [N, in, H, W].
class Conv2dImpl : public torch::nn::Module, public LeafLayer {
 public:
  Conv2dImpl(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, int64_t padding = 0, bool with_bias = true);
  torch::Tensor forward(const torch::Tensor& x) { return slot.empty() ? Apply(x, weight, bias) : Hooked(x); }
  LeafKind kind() const override { return LeafKind::kConv2d; }
  // w: [any, in, k, k].
  torch::Tensor Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& b) const override;
  void Reset(const at::Generator& generator) override;

 private:
  int64_t stride_;
  int64_t padding_;
  mutable ConvolutionKernel kernel_, hooks_kernel_;  // for the own weight, and for those of hooks
  mutable LinearKernel per_pixel_;
};
TORCH_MODULE(Conv2d);

// Per group of channels: (x − mean) / √(variance + eps), then weight and bias per channel. x: [N, C, …]. On a CPU a
// bfloat16 input gives a float32 output.
class GroupNormImpl : public torch::nn::Module, public LeafLayer {
 public:
  GroupNormImpl(int64_t groups, int64_t channels, double eps);
  torch::Tensor forward(const torch::Tensor& x) { return slot.empty() ? Apply(x, weight, bias) : Hooked(x); }
  // silu(forward(x)).
  torch::Tensor ThenSilu(const torch::Tensor& x);
  LeafKind kind() const override { return LeafKind::kGroupNorm; }
  torch::Tensor Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& b) const override;
  void Reset(const at::Generator& generator) override;

 private:
  int64_t groups_;
  double eps_;
};
TORCH_MODULE(GroupNorm);

// Normalises the last dimension. x: [..., width].
class LayerNormImpl : public torch::nn::Module, public LeafLayer {
 public:
  explicit LayerNormImpl(int64_t width, double eps = 1e-5);
  torch::Tensor forward(const torch::Tensor& x) { return slot.empty() ? Apply(x, weight, bias) : Hooked(x); }
  LeafKind kind() const override { return LeafKind::kLayerNorm; }
  torch::Tensor Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& b) const override {
    return LayerNormOf(x, w, b, eps_);
  }
  void Reset(const at::Generator& generator) override;

 private:
  double eps_;
};
TORCH_MODULE(LayerNorm);

// Rows of a table: ids int64 [...] → [..., width].
class EmbeddingImpl : public torch::nn::Module, public LeafLayer {
 public:
  EmbeddingImpl(int64_t rows, int64_t width);
  torch::Tensor forward(const torch::Tensor& ids) { return slot.empty() ? torch::embedding(weight, ids) : Hooked(ids); }
  LeafKind kind() const override { return LeafKind::kEmbedding; }
  // `b` is undefined.
  torch::Tensor Apply(const torch::Tensor& ids, const torch::Tensor& w, const torch::Tensor& /*b*/) const override {
    return torch::embedding(w, ids);
  }
  void Reset(const at::Generator& generator) override;
};
TORCH_MODULE(Embedding);

}  // namespace loupe::worker::nn
