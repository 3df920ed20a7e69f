#include "worker/nn/taps.h"

#include <ATen/record_function.h>

#include "worker/nn/tappable.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker::nn {

torch::Tensor TapPass::At(Tap tap, const torch::Tensor& x) const {
  RECORD_USER_SCOPE("loupe.method");
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

const PrefixTokens* TapPass::Prefix() const {
  const PrefixTokens* first = nullptr;
  int64_t slots = 0;
  bool alike = true;
  for (const SlotsPass& part : passes_) {
    const PrefixTokens* const prefix = part.pass->Prefix();
    if (prefix == nullptr) continue;
    if (first == nullptr) first = prefix;
    slots += part.range.count;
    alike = alike && prefix->count == first->count && prefix->stay == first->stay &&
            prefix->values.defined() == first->values.defined();
  }
  TORCH_CHECK(first == nullptr || (alike && slots == passes_.front().range.total),
              "trials whose methods put tokens in front of the stream share a pack with none but trials of the same "
              "method with as many tokens");
  return first;
}

torch::Tensor TapPass::Prefixed(const torch::Tensor& x) const {
  const PrefixTokens* const prefix = Prefix();
  if (prefix == nullptr || !prefix->values.defined()) return x;
  std::vector<torch::Tensor> values;  // by first slot
  for (const SlotsPass& part : passes_) values.push_back(part.pass->Prefix()->values);
  const torch::Tensor all = values.size() == 1 ? values.front() : torch::cat(values);
  const int64_t batch = x.size(0) / all.size(0);
  const auto rows = all.unsqueeze(1).expand({-1, batch, -1, -1}).reshape({x.size(0), prefix->count, -1});
  return torch::cat({rows.to(x.scalar_type()), x}, 1);
}

torch::Tensor TapPass::Stripped(const torch::Tensor& x) const {
  const PrefixTokens* const prefix = Prefix();
  return prefix == nullptr || prefix->stay ? x : x.narrow(1, prefix->count, x.size(1) - prefix->count);
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

TuningSites SitesIn(torch::nn::Module& denoiser, torch::nn::Module* conditioner, PromptSite* prompts) {
  TuningSites sites{TappableBlocksIn(denoiser), LayersIn(denoiser), {}, prompts};
  if (conditioner != nullptr) sites.conditioner = LayersIn(*conditioner);
  return sites;
}

}  // namespace loupe::worker::nn
