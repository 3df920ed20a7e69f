// Convolutions with kernels as long as the sequence, which look back over it or ahead, by FFT of length 2L: none wraps
// around.
//
//   back    y_l = Σ_{j ≤ l} K_j u_{l−j}        ŷ = Â û,  Â = K̂
//   ahead   y_l = Σ_{j < L−l} K_j u_{l+j}      ŷ = Â û,  Â = conj(K̂)
//
// (ahead is back on the flipped sequence, flipped back, without the flips). The kernels share the input's transform.
// The backward pass is written out, with as many real transforms, where LibTorch's derivative of a real transform is a
// complex one of its whole length:
//
//   ∂/∂u = irfft(Σ_r conj(Â_r) ĝ_r),   ∂/∂Â_r = Σ_rows conj(û) ĝ_r,   g_r = ∂/∂y_r
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace loupe::worker::nn {

// u: [N, L, H]; kernels: [R, H, L], of u's type, float32 or float64, the first `back` of them looking back and the
// others ahead. Returns [N, L, R·H]. Differentiable once, in both.
torch::Tensor LongConvolution(const torch::Tensor& u, const torch::Tensor& kernels, int64_t back);

// The two halves of it, where the kernels need no gradient: Â, [R, H, L + 1], complex, may be kept.
torch::Tensor TransferOf(const torch::Tensor& kernels, int64_t back);
torch::Tensor LongConvolutionBy(const torch::Tensor& u, const torch::Tensor& transfer);

}  // namespace loupe::worker::nn
