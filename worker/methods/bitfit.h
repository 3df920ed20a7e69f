// BitFit (Ben Zaken et al. 2022, arXiv 2106.10199): every bias of the denoiser is trained, those of its norms included,
// and nothing else.
#pragma once

#include <memory>
#include <vector>

#include "worker/methods/method.h"

namespace loupe::worker {

// All slots of a layer are computed together. No settings of its own.
std::unique_ptr<Method> MakeBitFit(const TuningSites& sites, const std::vector<SlotOptions>& slots,
                                   const SlotRange& range, torch::Device device);

}  // namespace loupe::worker
