#include "worker/methods/dropout.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <utility>
#include <vector>

#include "worker/runtime/device_copy.h"

namespace loupe::worker::methods {

torch::Tensor DropoutMask(const torch::Tensor& like, double p, uint64_t seed, size_t layer, int64_t draw,
                          const runtime::RowShare& rows) {
  const uint64_t stream = Mixed(Mixed(Mixed(seed) ^ static_cast<uint64_t>(draw)) ^ layer);
  std::vector<int64_t> sizes = like.sizes().vec();
  const int64_t entries = sizes.front() / rows.count;  // per row
  if (!rows.whole()) sizes.front() = entries * rows.total;
  auto keep = torch::empty(sizes).bernoulli_(1 - p, at::detail::createCPUGenerator(stream));
  if (!rows.whole()) keep = keep.narrow(0, entries * rows.first, like.size(0));
  return runtime::CopyTo(like.device(), keep.div_(1 - p).to(like.scalar_type()));
}

void KeptMasks::Prepare(std::vector<std::vector<int64_t>> draws) {
  torch::NoGradGuard no_grad;
  draws_ = std::move(draws);
  for (const Kept& kept : kept_) {
    kept.mask.copy_(
        DropoutMask(kept.mask, kept.p, kept.seed, kept.layer, draws_.at(kept.batch).at(kept.slot), kept.rows));
  }
}

torch::Tensor KeptMasks::Get(const torch::Tensor& like, double p, uint64_t seed, size_t layer, size_t slot,
                             const runtime::RowShare& rows) {
  for (const Kept& kept : kept_) {
    if (kept.batch == batch_ && kept.slot == slot && kept.layer == layer && kept.seed == seed &&
        kept.mask.sizes() == like.sizes() && kept.mask.scalar_type() == like.scalar_type()) {
      return kept.mask;
    }
  }
  kept_.push_back(
      {batch_, slot, layer, p, seed, rows, DropoutMask(like, p, seed, layer, draws_.at(batch_).at(slot), rows)});
  return kept_.back().mask;
}

}  // namespace loupe::worker::methods
