// Stable Diffusion v1's single files (v1-5-pruned-emaonly.safetensors and what is made from it): all three networks in
// one file, by the names of the original code (CompVis/stable-diffusion), which are not diffusers'.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <string>

#include "worker/io/safetensors.h"

namespace loupe::worker {

// Whether the arrays are such a file's.
bool IsOriginalCheckpoint(const std::map<std::string, ArrayView>& arrays);

// The original's name of one of diffusers' for a weight: "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
// for "down_blocks.0.resnets.0.conv1.weight". `resnets`: layers_per_block. `attends(i)`: whether the i-th up block has
// attention, on which the upsampler's number depends.
std::string OriginalUNetName(const std::string& name, int64_t resnets, const std::map<int64_t, bool>& attends);
// "first_stage_model.decoder.up.3.block.0.conv1.weight" for "decoder.up_blocks.0.resnets.0.conv1.weight" of a VAE of 4
// levels.
std::string OriginalVaeName(const std::string& name, int64_t levels);
// "cond_stage_model.transformer.text_model." and ours.
std::string OriginalTextName(const std::string& name);

// What of the file the network has weights for, by the network's own names: shapes as the network has them (the VAE's
// attention is 1×1 convolutions there). What the file lacks is left out.
template <typename OriginalName>
std::map<std::string, ArrayView> FromOriginal(const torch::nn::Module& network,
                                              const std::map<std::string, ArrayView>& file,
                                              const OriginalName& original_name) {
  std::map<std::string, ArrayView> found;
  for (const auto& item : network.named_parameters()) {
    const auto array = file.find(original_name(item.key()));
    if (array == file.end()) continue;
    ArrayView view = array->second;
    const bool pointwise = view.shape.size() == 4 && view.shape[2] == 1 && view.shape[3] == 1;
    if (pointwise && item.value().dim() == 2) view.shape.resize(2);
    found[item.key()] = std::move(view);
  }
  return found;
}

}  // namespace loupe::worker
