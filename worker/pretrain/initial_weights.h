// What training begins with, beyond InitialiseAsTorch (leaf_layers.h).
#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "worker/models/clip.h"

namespace loupe::worker::pretrain {

// Last layers of residual branches and of the whole network at zero, so that training starts from the identity: every
// parameter "….{ending}.weight" and ".bias".
void ZeroLastLayers(torch::nn::Module& network, const std::vector<std::string>& endings);

// CLIP's first weights: small embeddings, residual branches that begin at nothing, temperature 1/20. The image tower's
// places begin as waves: shape is where things are, and 1,346 pictures teach places slowly.
void InitialiseClip(models::CLIPModel& clip, at::Generator random);

}  // namespace loupe::worker::pretrain
