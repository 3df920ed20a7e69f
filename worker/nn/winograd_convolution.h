// 3×3 convolutions of stride 1 and zero padding 1 by the kernels of worker/kernels/winograd.h, of tensors and without a
// graph (kernel_layers.h makes layers of them). Each tile's bytes depend neither on the other rows nor on the number of
// threads. A weight's gradient is one sum over all rows.
#pragma once

#include <torch/types.h>

#include "worker/kernels/winograd.h"

namespace loupe::worker::nn {

// weight: [out, in, 3, 3], in whatever order of memory. Beyond a size a second layout would cost more memory than the
// time is worth (four times the weight, twice where gradients pass), and LibTorch's own kernels come near the
// processor's peak.
bool WinogradTakes(const torch::Tensor& weight);

kernels::WinogradWeights WinogradOf(const torch::Tensor& weight);
// What takes a gradient of the result to that of the input: the filters turned by half a turn.
kernels::WinogradWeights TurnedWinogradOf(const torch::Tensor& weight);

// x: [N, in, H, W] → [N, out, H, W], channels last; bias [out], perhaps undefined.
torch::Tensor Convolved(const torch::Tensor& x, const kernels::WinogradWeights& weights, const torch::Tensor& bias);

// [out, in, 3, 3], from x and the gradient of the result.
torch::Tensor ConvolutionWeightGradient(const torch::Tensor& x, const torch::Tensor& d_y);

}  // namespace loupe::worker::nn
