// Stable Diffusion's single files (v1-5-pruned-emaonly.safetensors, v2-1_768-ema-pruned.safetensors,
// sd_xl_base_1.0.safetensors and what is made from them): all networks in one file, by the names of the original code
// (CompVis/stable-diffusion, Stability-AI/stablediffusion and generative-models), which are not diffusers'.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/io/safetensors.h"

namespace loupe::worker::models {

// Whether the arrays are such a file's.
bool IsOriginalCheckpoint(const std::map<std::string, io::ArrayView>& arrays);

// The original's name of one of diffusers' for a weight: "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
// for "down_blocks.0.resnets.0.conv1.weight". `resnets`: layers_per_block. `attends(i)`: whether the i-th up block has
// attention, on which the upsampler's number depends.
std::string OriginalUNetName(const std::string& name, int64_t resnets, const std::map<int64_t, bool>& attends);
// "first_stage_model.decoder.up.3.block.0.conv1.weight" for "decoder.up_blocks.0.resnets.0.conv1.weight" of a VAE of 4
// levels.
std::string OriginalVaeName(const std::string& name, int64_t levels);

// Where one of diffusers' or transformers' weights is in the file.
struct OriginalPlace {
  std::string name;
  int64_t third = -1;       // 0, 1, 2: the first, second, last third of its rows (queries, keys, values in one array)
  bool transposed = false;  // [in, out]
};
using OriginalPlaces = std::function<OriginalPlace(const std::string& name)>;

// Of a text tower: the first or, with XL, the second. By CLIP's names (v1, XL's first) or OpenCLIP's (v2, XL's second),
// whichever the file has.
OriginalPlaces OriginalTextPlaces(const std::map<std::string, io::ArrayView>& file, bool second);

struct OriginalArrays {
  std::map<std::string, io::ArrayView> views;
  std::vector<std::shared_ptr<const std::string>> kept;  // bytes of those that are not in the file as they are
};

// What of the file the network has weights for, by the network's own names: shapes as the network has them (the VAE's
// attention is 1×1 convolutions there). What the file lacks is left out.
OriginalArrays FromOriginal(const torch::nn::Module& network, const std::map<std::string, io::ArrayView>& file,
                            const OriginalPlaces& places);

}  // namespace loupe::worker::models
