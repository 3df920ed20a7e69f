// LoRAs in the files of other programs.
//
//   diffusers  pytorch_lora_weights.safetensors: "unet.{layer}.lora_A.weight", "text_encoder.text_model.{layer}.…";
//              ranks, alphas, rsLoRA and DoRA in the metadata's lora_adapter_metadata
//   PEFT       adapter_model.safetensors ("base_model.model.{layer}.lora_A.weight") and adapter_config.json; a text
//              encoder's in the sub-folder text_encoder
//   kohya      one file: "lora_unet_{layer, dots as underscores}.lora_down.weight", ".lora_up.weight", ".alpha"
//
// Read is also what former versions of diffusers wrote ("….processor.to_q_lora.down.weight", "….to_q.lora.down.weight",
// "….q_proj.lora_linear_layer.down.weight", with and without "unet."). docs/formats.md has the keys.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/io/safetensors.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker::methods::files {

struct LoraLayer {
  torch::Tensor a;          // [r, in] or [r, in, k, k]
  torch::Tensor b;          // [out, r] or [out, r, 1, 1]
  torch::Tensor magnitude;  // [out]; undefined without DoRA
  double scale = 1;         // s in y + s·B(A(x))

  int64_t rank() const { return a.size(0); }
};

struct LoraFile {
  // By the layer's name in diffusers' files: "unet.{layer}", "text_encoder.text_model.{layer}".
  std::map<std::string, LoraLayer> layers;
  // How the scale is told in files: as alpha/√r instead of alpha/r.
  bool rslora = false;

  double AlphaOf(const LoraLayer& layer) const;
  bool Tunes(std::string_view prefix) const;  // kUNetPrefix, kTextEncoderPrefix
};

// A file, or a folder in PEFT's layout, with the layers of `sites`. NOT_FOUND and the like from the file;
// INVALID_ARGUMENT, with the path and a sentence, when it is no LoRA (of another kind, of another base, incomplete, not
// finite).
absl::StatusOr<LoraFile> ReadLora(const std::string& path, const nn::TuningSites& sites);

// Into `folder`, which must exist; errors as WriteFileAtomically.
absl::Status WriteDiffusersLora(const std::string& folder, const LoraFile& lora);
absl::Status WritePeftLora(const std::string& folder, const LoraFile& lora);
// lora.safetensors.
absl::Status WriteKohyaLora(const std::string& folder, const LoraFile& lora);

// {"lora_adapter_metadata": …}: what makes diffusers read ranks and alphas from the metadata and not from the arrays.
io::Metadata DiffusersLoraMetadata(const LoraFile& lora);

// By the layer's name, "{layer}.lora_A.weight" and so on: the arrays of diffusers' file.
std::map<std::string, torch::Tensor> DiffusersLoraArrays(const LoraFile& lora);

}  // namespace loupe::worker::methods::files
