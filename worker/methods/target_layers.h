// The layers that method.targets stands for.
#pragma once

#include <cstddef>
#include <vector>

#include "common/settings/settings.h"
#include "worker/methods/layer_names.h"

namespace loupe::worker::methods {

// Indices into `sites`, ascending: linear layers and convolutions only. Reads method.{targets, text_encoder}; throws
// c10::Error with a sentence where a target fits no layer.
std::vector<size_t> TargetLayers(const std::vector<NamedSite>& sites, const settings::Settings& settings);

}  // namespace loupe::worker::methods
