// When the kernels of worker/kernels stand in for LibTorch's operators.
#pragma once

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <optional>

#include "worker/kernels/vector.h"

namespace loupe::worker::nn {

// Whether they are for such an input: float32 on a CPU that they know, and no autocast.
inline bool KernelsTake(const torch::Tensor& x) {
  return kernels::Width() > 0 && x.is_cpu() && x.scalar_type() == torch::kFloat32 && x.numel() > 0 &&
         !at::autocast::is_autocast_enabled(at::kCPU);
}

// LibTorch's custom functions take no undefined tensor for an argument.
inline std::optional<torch::Tensor> Given(const torch::Tensor& parameter) {
  return parameter.defined() ? std::optional(parameter) : std::nullopt;
}

// Whether argument `which` of such a function wants a gradient: one that was not given has no place among the inputs.
inline bool WantsGradient(const torch::autograd::AutogradContext& ctx, bool given, size_t which) {
  return given && ctx.needs_input_grad(which);
}

}  // namespace loupe::worker::nn
