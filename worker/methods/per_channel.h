// A slot's numbers per channel on what a layer gives: biases, factors.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "worker/nn/leaf_layers.h"

namespace loupe::worker::methods {

// `values` [K, channels] as a tensor that broadcasts over y [K·B, …], trial-major, of a layer of this kind: channels
// come second in pictures and last elsewhere. In y's type: under autocast the result would be wider.
inline torch::Tensor PerChannel(const torch::Tensor& values, const torch::Tensor& y, nn::LeafKind kind) {
  const int64_t slots = values.size(0), batch = y.size(0) / slots;
  std::vector<int64_t> shape(static_cast<size_t>(y.dim()), 1);
  shape.front() = slots * batch;
  const bool second = kind == nn::LeafKind::kConv2d || kind == nn::LeafKind::kGroupNorm;
  shape[second ? 1 : shape.size() - 1] = values.size(1);
  return values.unsqueeze(1).expand({-1, batch, -1}).reshape(shape).to(y.scalar_type());
}

}  // namespace loupe::worker::methods
