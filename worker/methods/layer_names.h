// Layers of both of a base's networks under one kind of name, as files have them: "unet.{layer}",
// "text_encoder.text_model.{layer}" (diffusers' and transformers' names; ours are without "text_model.").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "worker/methods/file_parts.h"
#include "worker/methods/method.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker::methods {

inline constexpr std::string_view kUNetPrefix = "unet.";
inline constexpr std::string_view kTextEncoderPrefix = "text_encoder.text_model.";

struct NamedSite {
  std::string file_name;  // of the layer, without ".weight"
  bool conditioner = false;
  nn::LayerSite site;
};

// The denoiser's layers, then the conditioner's.
std::vector<NamedSite> NamedSites(const nn::TuningSites& sites);

// Where the base's weights have an array that a file calls `name` ("unet.conv_in.weight"); nullptr when they have none.
torch::Tensor* FindWeight(BaseWeights& weights, std::string_view name);

// Method::Merge where the parts are weights of the base, under their names in files.
absl::Status ReplaceWeights(const std::vector<FilePart>& parts, BaseWeights& weights);

}  // namespace loupe::worker::methods
