// In which arithmetic a trial was computed. Two trials of one seed that say the same were computed by the same
// operators; others differ by rounding, which training carries on.
#pragma once

#include <torch/types.h>

#include <string>

namespace loupe::worker::runtime {

// Raised by a change that makes other bytes of the same seed on the same kind of processor (docs/trial.md, Numerics):
//   1  LibTorch's operators; also where a result says nothing, as all did before there was a second
//   2  on CPUs the kernels of worker/kernels, and guidance's halves in passes of their own
//   3  trained 3×3 convolutions and trained norms by those kernels, too
// On GPUs:
//   1  LibTorch's operators
//   2  what guidance's halves, or a pack's trials, have in common is computed for one of them
//   3  the optimiser's rate is a number on the device, float32
constexpr int kCpuNumerics = 3, kGpuNumerics = 3;

// "3, AVX2": version and instructions of the kernels. "3, cuda" on a GPU.
std::string NumericsOf(torch::Device device);

}  // namespace loupe::worker::runtime
