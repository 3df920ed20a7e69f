#include "worker/nn/time_embedding.h"

#include <cmath>

namespace loupe::worker::nn {

torch::Tensor SinusoidalEmbedding(const torch::Tensor& timesteps, int64_t width, bool flip_sin_to_cos,
                                  double freq_shift) {
  TORCH_CHECK(width % 2 == 0, "the time embedding's width must be even, not ", width);
  const int64_t half = width / 2;
  const auto index = torch::arange(half, torch::dtype(torch::kFloat32).device(timesteps.device()));
  const auto frequencies = torch::exp(-std::log(10000.0) * index / (static_cast<double>(half) - freq_shift));
  const auto angles = timesteps.to(torch::kFloat32).unsqueeze(1) * frequencies.unsqueeze(0);
  return flip_sin_to_cos ? torch::cat({angles.cos(), angles.sin()}, 1) : torch::cat({angles.sin(), angles.cos()}, 1);
}

TimestepEmbeddingImpl::TimestepEmbeddingImpl(int64_t in, int64_t width)
    : linear_1_(register_module("linear_1", Linear(in, width))),
      linear_2_(register_module("linear_2", Linear(width, width))) {}

torch::Tensor TimestepEmbeddingImpl::forward(const torch::Tensor& x) { return linear_2_(torch::silu(linear_1_(x))); }

}  // namespace loupe::worker::nn
