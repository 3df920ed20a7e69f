// How the network is told the time: sinusoids of the timestep and a small MLP over them.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>

#include "worker/nn/leaf_layers.h"

namespace loupe::worker::nn {

// [sin(t ω_i), cos(t ω_i)] with ω_i = 10000^(−i / (width/2 − freq_shift)), i < width/2 (as in DDPM, arXiv 2006.11239);
// `flip_sin_to_cos` puts the cosines first. timesteps: [N], any number type → [N, width], float32. `width` is even.
torch::Tensor SinusoidalEmbedding(const torch::Tensor& timesteps, int64_t width, bool flip_sin_to_cos,
                                  double freq_shift);

// linear_2(silu(linear_1(x))). Keys: linear_1, linear_2.
class TimestepEmbeddingImpl : public torch::nn::Module {
 public:
  TimestepEmbeddingImpl(int64_t in, int64_t width);
  // x: [N, in] → [N, width].
  torch::Tensor forward(const torch::Tensor& x);

  // No method has a hook in its layers.
  bool untouched() const { return linear_1_->slot.empty() && linear_2_->slot.empty(); }

 private:
  Linear linear_1_{nullptr}, linear_2_{nullptr};
};
TORCH_MODULE(TimestepEmbedding);

}  // namespace loupe::worker::nn
