// Hypernetworks as AUTOMATIC1111's web UI has them (files/hypernetwork_files.h): before to_k and to_v of every
// attention stands a small network for its context's width, one for all layers of that width; self-attention's context
// is the picture's own stream. Initial values, functions and places are theirs; multiplied by 1.
#pragma once

#include <memory>

#include "common/settings/settings.h"
#include "worker/methods/files/hypernetwork_files.h"
#include "worker/methods/method.h"

namespace loupe::worker::methods {

// Slots may differ in everything. Reads method.{layer_structure, hidden_activation, activate_output, layer_norm,
// weight_init, dropout, widths}. Throws c10::Error with a sentence when the settings do not fit the network.
MethodMaker MakeHypernetwork;

// One slot, `range.first`, with a file's networks. A width that the base does not have is an error; one that the base
// has and the file not is left alone, as there.
std::unique_ptr<Method> MakeHypernetworkOf(const files::HypernetworkFile& file, const nn::TuningSites& sites,
                                           const nn::SlotRange& range, torch::Device device);

// Throws c10::Error when a setting means nothing.
files::HypernetworkShape HypernetworkShapeOf(const settings::Settings& settings);

}  // namespace loupe::worker::methods
