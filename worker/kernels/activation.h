// Activations, each number by itself, and their gradients.
#pragma once

#include <cstdint>

namespace loupe::worker::kernels {

enum class Activation {
  kSilu,      // x / (1 + e^−x)
  kGelu,      // x Φ(x) (Hendrycks & Gimpel 2016, arXiv 1606.08415)
  kGeluTanh,  // x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2
};

// y may be x.
void Activate(Activation kind, const float* x, int64_t count, float* y);

// d_x = d_y f′(x). d_x may be d_y or x.
void ActivateGradient(Activation kind, const float* d_y, const float* x, int64_t count, float* d_x);

// in [rows, 2 columns] = [a, g] → out [rows, columns] = a · gelu(g) (GEGLU, Shazeer 2020, arXiv 2002.05202), gelu being
// kGelu.
void Geglu(const float* in, int64_t rows, int64_t columns, float* out);

// d_in [rows, 2 columns] from d_out [rows, columns]. d_in may be in.
void GegluGradient(const float* d_out, const float* in, int64_t rows, int64_t columns, float* d_in);

}  // namespace loupe::worker::kernels
