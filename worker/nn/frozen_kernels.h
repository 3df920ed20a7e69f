// Frozen linear layers and 3×3 convolutions by the kernels of worker/kernels, which want a weight in a layout of their
// own: it is made when the weight is first used, and again when it has changed.
//
// Used where LibTorch's operators are not at their best: small float32 weights that need no gradient, on a CPU that the
// kernels know, without autocast. Then a row's (a tile's, a picture's) bytes depend neither on the other rows nor on
// the number of threads. Everything else is LibTorch's.
#pragma once

#include <c10/util/intrusive_ptr.h>
#include <torch/types.h>

#include <mutex>

#include "worker/kernels/feed_forward.h"

namespace loupe::worker::nn {

class LinearLayouts;
class ConvolutionLayouts;

// One layer's operator with its frozen weight. Thread-safe.
template <typename Layouts>
class Frozen {
 public:
  static bool Takes(const torch::Tensor& x, const torch::Tensor& weight);
  // `bias` [out], perhaps undefined, perhaps trained. Gradients of x and bias.
  torch::Tensor operator()(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias);
  // For the weight as it is now.
  c10::intrusive_ptr<Layouts> LayoutsOf(const torch::Tensor& weight);

 private:
  std::mutex mutex_;
  c10::intrusive_ptr<c10::intrusive_ptr_target> kept_;  // a Layouts, or null
};

// y = x Wᵀ + b. x: [..., in]; weight: [out, in].
using FrozenLinear = Frozen<LinearLayouts>;

// A 3×3 convolution of stride 1 and zero padding 1. x: [N, in, H, W] → [N, out, H, W], channels last; weight: [out, in,
// 3, 3].
using FrozenConvolution = Frozen<ConvolutionLayouts>;

extern template class Frozen<LinearLayouts>;
extern template class Frozen<ConvolutionLayouts>;

// out(between(in(x))) of two layers with frozen biases, in one pass (worker/kernels/feed_forward.h). x: [..., in]. The
// gradient of x.
torch::Tensor FrozenFeedForward(const torch::Tensor& x, FrozenLinear& in, const torch::Tensor& in_weight,
                                const torch::Tensor& in_bias, kernels::BetweenProducts between, FrozenLinear& out,
                                const torch::Tensor& out_weight, const torch::Tensor& out_bias);

}  // namespace loupe::worker::nn
