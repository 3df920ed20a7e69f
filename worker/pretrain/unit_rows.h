// Embeddings as directions.
#pragma once

#include <torch/types.h>

namespace loupe::worker::pretrain {

// x: [N, width] float. Every row divided by its Euclidean length (by 1e-12 where that is less).
inline torch::Tensor UnitRows(const torch::Tensor& x) { return x / x.norm(2, 1, /*keepdim=*/true).clamp_min(1e-12); }

}  // namespace loupe::worker::pretrain
