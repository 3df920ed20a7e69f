#include "worker/nn/taps.h"

#include "worker/nn/tappable.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker {

torch::Tensor TapPass::At(Tap tap, const torch::Tensor& x) const {
  if (passes_.size() == 1 && passes_.front().range.all()) return passes_.front().pass->At(tap, x);
  std::vector<torch::Tensor> pieces;
  const int64_t total = passes_.front().range.total;
  const auto keep = [&](int64_t first, int64_t end) {
    if (end > first) pieces.push_back(SlotRange{first, end - first, total}.Rows(x));
  };
  bool changed = false;
  int64_t next = 0;
  for (const SlotsPass& part : passes_) {
    keep(next, part.range.first);
    const torch::Tensor rows = part.range.Rows(x);
    pieces.push_back(part.pass->At(tap, rows));
    changed = changed || !pieces.back().is_same(rows);
    next = part.range.end();
  }
  keep(next, total);
  // At most taps a method only reads, or does nothing at all.
  return changed ? torch::cat(pieces) : x;
}

std::vector<TappableBlock> TappableBlocksIn(torch::nn::Module& network) {
  std::vector<TappableBlock> blocks;
  for (const auto& item : network.named_modules("", /*include_self=*/false)) {
    if (auto* tappable = dynamic_cast<Tappable*>(item.value().get())) blocks.push_back(tappable->Describe(item.key()));
  }
  return blocks;
}

namespace {

std::vector<LayerSite> LayersIn(torch::nn::Module& network) {
  std::vector<LayerSite> sites;
  for (const auto& item : network.named_modules("", /*include_self=*/false)) {
    if (auto* layer = dynamic_cast<LeafLayer*>(item.value().get())) sites.push_back({item.key(), layer});
  }
  return sites;
}

}  // namespace

TuningSites SitesIn(torch::nn::Module& denoiser, torch::nn::Module* conditioner) {
  TuningSites sites{TappableBlocksIn(denoiser), LayersIn(denoiser), {}};
  if (conditioner != nullptr) sites.conditioner = LayersIn(*conditioner);
  return sites;
}

}  // namespace loupe::worker
