// Frozen linear layers and 3×3 convolutions by the kernels of worker/kernels, which want a weight in a layout of their
// own: it is made when the weight is first used, and again when it has changed.
//
// Used where LibTorch's operators are not at their best: small float32 weights that need no gradient, on a CPU that the
// kernels know, without autocast. Then a row's (a tile's, a picture's) bytes depend neither on the other rows nor on
// the number of threads. Everything else is LibTorch's.
#pragma once

#include <c10/util/intrusive_ptr.h>
#include <torch/types.h>

#include <memory>
#include <mutex>

#include "worker/kernels/feed_forward.h"

namespace loupe::worker::nn {

// The layouts of one weight. Thread-safe.
template <typename Layouts>
class FrozenLayouts {
 public:
  // For the weight as it is now.
  c10::intrusive_ptr<Layouts> For(const torch::Tensor& weight) {
    const std::lock_guard lock(mutex_);
    if (kept_ == nullptr || !kept_->Fits(weight)) kept_ = c10::make_intrusive<Layouts>(weight);
    return kept_;
  }

 private:
  std::mutex mutex_;
  c10::intrusive_ptr<Layouts> kept_;
};

class LinearLayouts;
class ConvolutionLayouts;

// y = x Wᵀ + b, of one layer.
class FrozenLinear {
 public:
  FrozenLinear();
  ~FrozenLinear();
  FrozenLinear(const FrozenLinear&) = delete;
  FrozenLinear& operator=(const FrozenLinear&) = delete;
  // weight: [out, in].
  static bool Takes(const torch::Tensor& x, const torch::Tensor& weight);
  // x: [..., in]; `bias` [out], perhaps undefined, perhaps trained. Gradients of x and bias.
  torch::Tensor operator()(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias);

 private:
  friend torch::Tensor FrozenFeedForward(const torch::Tensor& x, FrozenLinear& in, const torch::Tensor& in_weight,
                                         const torch::Tensor& in_bias, kernels::BetweenProducts between,
                                         FrozenLinear& out, const torch::Tensor& out_weight,
                                         const torch::Tensor& out_bias);
  std::unique_ptr<FrozenLayouts<LinearLayouts>> layouts_;
};

// out(between(in(x))) of two layers with frozen biases, in one pass (worker/kernels/feed_forward.h). x: [..., in]. The
// gradient of x.
torch::Tensor FrozenFeedForward(const torch::Tensor& x, FrozenLinear& in, const torch::Tensor& in_weight,
                                const torch::Tensor& in_bias, kernels::BetweenProducts between, FrozenLinear& out,
                                const torch::Tensor& out_weight, const torch::Tensor& out_bias);

// A 3×3 convolution of stride 1 and zero padding 1, of one layer.
class FrozenConvolution {
 public:
  FrozenConvolution();
  ~FrozenConvolution();
  FrozenConvolution(const FrozenConvolution&) = delete;
  FrozenConvolution& operator=(const FrozenConvolution&) = delete;
  // weight: [out, in, 3, 3].
  static bool Takes(const torch::Tensor& x, const torch::Tensor& weight);
  // x: [N, in, H, W] → [N, out, H, W], channels last. Gradients of x and bias.
  torch::Tensor operator()(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias);

 private:
  std::unique_ptr<FrozenLayouts<ConvolutionLayouts>> layouts_;
};

}  // namespace loupe::worker::nn
