// Linear layers and 3×3 convolutions by the kernels of worker/kernels, which want a weight in a layout of their own: it
// is made from the weight as it is, and kept once the same weight comes a second time, as that of a base does, or what
// was trained while pictures are sampled with it; what each step changes is not.
//
// Used where LibTorch's operators are not at their best: small float32 weights (of linear layers those that need no
// gradient), on a CPU that the kernels know, without autocast. Then a row's (a tile's, a picture's) bytes depend
// neither on the other rows, nor on the number of threads, nor on whether the weight is trained. Everything else is
// LibTorch's.
#pragma once

#include <c10/util/intrusive_ptr.h>
#include <torch/types.h>

#include <cstdint>
#include <mutex>

#include "worker/kernels/feed_forward.h"

namespace loupe::worker::nn {

class LinearLayouts;
class ConvolutionLayouts;

// One layer's operator. Thread-safe.
template <typename Layouts>
class KernelLayer {
 public:
  // Whether a kernel computes it.
  static bool Takes(const torch::Tensor& x, const torch::Tensor& weight);
  // `bias` [out], perhaps undefined. With the gradients of x, weight and bias, each where it is wanted. Whoever writes
  // into a weight raises its version, as LibTorch's operators do: it is how a change is noticed.
  torch::Tensor operator()(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias);
  // For the weight as it is now. Takes(…, weight).
  c10::intrusive_ptr<Layouts> LayoutsOf(const torch::Tensor& weight);

 private:
  struct Seen {
    const void* memory = nullptr;
    int64_t version = 0;
    bool operator==(const Seen&) const = default;
  };

  std::mutex mutex_;
  Seen last_;  // the weight that came last
  // Its Layouts, which hold its memory so that this is no other tensor's; or null.
  c10::intrusive_ptr<c10::intrusive_ptr_target> kept_;
};

// y = x Wᵀ + b. x: [..., in]; weight: [out, in].
using LinearKernel = KernelLayer<LinearLayouts>;

// A 3×3 convolution of stride 1 and zero padding 1. x: [N, in, H, W] → [N, out, H, W], in whatever order of memory;
// weight: [out, in, 3, 3].
using ConvolutionKernel = KernelLayer<ConvolutionLayouts>;

extern template class KernelLayer<LinearLayouts>;
extern template class KernelLayer<ConvolutionLayouts>;

// out(between(in(x))) of two layers with frozen biases, in one pass (worker/kernels/feed_forward.h). x: [..., in]. The
// gradient of x.
torch::Tensor KernelFeedForward(const torch::Tensor& x, LinearKernel& in, const torch::Tensor& in_weight,
                                const torch::Tensor& in_bias, kernels::BetweenProducts between, LinearKernel& out,
                                const torch::Tensor& out_weight, const torch::Tensor& out_bias);

}  // namespace loupe::worker::nn
