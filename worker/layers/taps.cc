#include "worker/layers/taps.h"

#include "worker/layers/tappable.h"

namespace loupe::worker {

const char* TapName(Tap tap) {
  switch (tap) {
    case Tap::kSaIn:
      return "SA_in";
    case Tap::kSaOut:
      return "SA_out";
    case Tap::kCaIn:
      return "CA_in";
    case Tap::kCaC:
      return "CA_c";
    case Tap::kCaOut:
      return "CA_out";
    case Tap::kFfnIn:
      return "FFN_in";
    case Tap::kFfnOut:
      return "FFN_out";
    case Tap::kTransOut:
      return "Trans_out";
    case Tap::kResIn:
      return "Res_in";
    case Tap::kResOut:
      return "Res_out";
  }
  TORCH_CHECK(false, "tap ", static_cast<int>(tap), " has no name");
}

std::vector<TappableBlock> TappableBlocksIn(torch::nn::Module& network) {
  std::vector<TappableBlock> blocks;
  for (const auto& item : network.named_modules("", /*include_self=*/false)) {
    if (auto* tappable = dynamic_cast<Tappable*>(item.value().get())) blocks.push_back(tappable->Describe(item.key()));
  }
  return blocks;
}

}  // namespace loupe::worker
