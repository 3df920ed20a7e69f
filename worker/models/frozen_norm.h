// Batch normalisation with the statistics of the checkpoint: y = (x − μ)/√(σ² + 0.001)·w + b per channel, as the
// networks have it that came from TensorFlow. Keys: weight, bias, running_mean, running_var.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>

namespace loupe::worker::models {

struct FrozenNormImpl : torch::nn::Module {
  explicit FrozenNormImpl(int64_t channels) {
    for (const char* name : {"weight", "bias", "running_mean", "running_var"}) {
      register_parameter(name, torch::empty({channels}, torch::kFloat32), false);
    }
  }
  // x: [N, channels, H, W].
  torch::Tensor forward(const torch::Tensor& x) {
    constexpr double kEps = 0.001;
    const auto& p = named_parameters();
    return torch::batch_norm(x, p["weight"], p["bias"], p["running_mean"], p["running_var"], /*training=*/false,
                             /*momentum=*/0, kEps, /*cudnn_enabled=*/true);
  }
};

}  // namespace loupe::worker::models
