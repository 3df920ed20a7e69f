#include "worker/methods/dropout.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <vector>

namespace loupe::worker::methods {

torch::Tensor DropoutMask(const torch::Tensor& like, double p, uint64_t seed, size_t layer, int64_t draw,
                          const runtime::RowShare& rows) {
  const uint64_t stream = Mixed(Mixed(Mixed(seed) ^ static_cast<uint64_t>(draw)) ^ layer);
  std::vector<int64_t> sizes = like.sizes().vec();
  const int64_t entries = sizes.front() / rows.count;  // per row
  if (!rows.whole()) sizes.front() = entries * rows.total;
  auto keep = torch::empty(sizes).bernoulli_(1 - p, at::detail::createCPUGenerator(stream));
  if (!rows.whole()) keep = keep.narrow(0, entries * rows.first, like.size(0));
  return keep.div_(1 - p).to(like.device(), like.scalar_type());
}

}  // namespace loupe::worker::methods
