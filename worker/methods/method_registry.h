// The tuning methods by the name that `method.kind` gives them.
#pragma once

#include <memory>
#include <vector>

#include "worker/methods/method.h"

namespace loupe::worker {

// Makes the method that the slots' `method.kind` names (the same for all) and attaches it to `blocks`, the tappable
// blocks of one network (TappableBlocksIn). Throws c10::Error with a sentence for the user when the settings do not fit
// the network, or when a block is taken already.
std::unique_ptr<Method> MakeMethod(const std::vector<TappableBlock>& blocks, const std::vector<SlotOptions>& slots,
                                   torch::Device device);

}  // namespace loupe::worker
