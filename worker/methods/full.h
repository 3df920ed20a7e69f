// Full fine-tuning: the base's own weights are trained, all of them or those that are chosen, as copies: the base
// itself stays as it is.
#pragma once

#include <memory>
#include <vector>

#include "worker/methods/method.h"

namespace loupe::worker {

// Reads method.{layers, text_encoder}: patterns are held against the names of weights in the checkpoint
// ("down_blocks.0.resnets.0.conv1.weight").
std::unique_ptr<Method> MakeFull(const TuningSites& sites, const std::vector<SlotOptions>& slots,
                                 const SlotRange& range, torch::Device device);

// method.text_encoder.
bool FullTrainsConditioner(const Settings& settings);

}  // namespace loupe::worker
