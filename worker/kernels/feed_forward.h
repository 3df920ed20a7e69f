// A transformer's feed-forward part with frozen weights, so many rows at a time that what lies between its two products
// stays in the cache: written to memory and read again it would cost as much as a third of the products.
#pragma once

#include <cstdint>

#include "worker/kernels/packed_gemm.h"

namespace loupe::worker::kernels {

enum class BetweenProducts {
  kGeglu,     // h [rows, 2n] → [rows, n] (Geglu in activation.h)
  kGeluTanh,  // h [rows, n] → [rows, n]
};

// y = between(h) · out + out bias, h = x · in + in bias. x: [rows, in.k()], y: [rows, out.n()], without gaps; biases
// may be null. h is given, too, where its pointer is not null. The bytes are those of Multiply, Geglu and Activate.
void FeedForward(const PackedMatrix& in, const float* in_bias, BetweenProducts between, const PackedMatrix& out,
                 const float* out_bias, const float* x, int64_t rows, float* h, float* y);

// d_x [rows, in.n()] from d_y [rows, out.k()] and h; `out` and `in` are the transposed factors.
void FeedForwardGradient(const PackedMatrix& out, BetweenProducts between, const PackedMatrix& in, const float* d_y,
                         const float* h, int64_t rows, float* d_x);

}  // namespace loupe::worker::kernels
