// 3×3 convolutions of stride 1 and zero padding 1 by the kernels of worker/kernels/winograd.h: with frozen weights
// (frozen_kernels.h keeps their transform) and with trained ones, whose transform is made in every pass.
//
// Each tile's bytes depend neither on the other rows nor on the number of threads, and with trained weights they are
// those of the same weights frozen. A weight's gradient is one sum over all rows.
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

// x: [N, in, H, W] → [N, out, H, W], channels last; bias [out], perhaps undefined. No gradients.
torch::Tensor Convolved(const torch::Tensor& x, const kernels::WinogradWeights& weights, const torch::Tensor& bias);

// The same with the gradients of x, weight and bias, each where it is wanted. KernelsTake(x) and WinogradTakes(weight),
// or it is LibTorch's conv2d.
torch::Tensor TrainedConvolution(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias);

}  // namespace loupe::worker::nn
