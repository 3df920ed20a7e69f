#include "worker/methods/dropout.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

namespace loupe::worker {

torch::Tensor DropoutMask(const torch::Tensor& like, double p, uint64_t seed, size_t layer, int64_t draw) {
  const uint64_t stream = Mixed(Mixed(Mixed(seed) ^ static_cast<uint64_t>(draw)) ^ layer);
  const auto keep = torch::empty(like.sizes()).bernoulli_(1 - p, at::detail::createCPUGenerator(stream));
  return keep.div_(1 - p).to(like.device(), like.scalar_type());
}

}  // namespace loupe::worker
