// Norms, activations and attention by the kernels of worker/kernels, with their gradients; each is LibTorch's operator
// where the kernels do not take the input (KernelsTake in kernels_take.h: float32 on a CPU that they know, without
// autocast). A row's, a head's, a picture's bytes depend neither on the others nor on the number of threads; nor does
// which of the two computes depend on whether something is trained, so that what is recomputed is the same bytes.
#pragma once

#include <torch/types.h>

#include <cstdint>

#include "worker/kernels/activation.h"
#include "worker/kernels/norm.h"

namespace loupe::worker::nn {

// x: [N, C, …]; weight and bias: [C].
torch::Tensor GroupNormThen(const torch::Tensor& x, int64_t groups, const torch::Tensor& weight,
                            const torch::Tensor& bias, double eps, kernels::AfterNorm after);

// Over the last dimension of x; weight and bias of its size, or both undefined.
torch::Tensor LayerNormOf(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps);

torch::Tensor Activated(const torch::Tensor& x, kernels::Activation kind);

// [..., 2n] = [a, g] → a · gelu(g), [..., n].
torch::Tensor GeluGated(const torch::Tensor& x);

// softmax(q kᵀ / √d) v of every head. queries: [N, heads, Nq, d]; keys, values: [N, heads, Nk, d]. Returns queries'
// shape.
torch::Tensor AttentionOf(const torch::Tensor& queries, const torch::Tensor& keys, const torch::Tensor& values);

}  // namespace loupe::worker::nn
