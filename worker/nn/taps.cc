#include "worker/nn/taps.h"

#include "worker/nn/tappable.h"

namespace loupe::worker {

std::vector<TappableBlock> TappableBlocksIn(torch::nn::Module& network) {
  std::vector<TappableBlock> blocks;
  for (const auto& item : network.named_modules("", /*include_self=*/false)) {
    if (auto* tappable = dynamic_cast<Tappable*>(item.value().get())) blocks.push_back(tappable->Describe(item.key()));
  }
  return blocks;
}

}  // namespace loupe::worker
