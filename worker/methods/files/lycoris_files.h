// LoHas and LoKrs in LyCORIS's files: one safetensors file with the names of kohya's scripts,
//
//   lora_unet_{layer, dots as underscores}.hada_w1_a, .hada_w1_b, .hada_w2_a, .hada_w2_b, .alpha      (LoHa)
//   lora_unet_{layer}.lokr_w1, .lokr_w2 or .lokr_w2_a and .lokr_w2_b, .alpha                          (LoKr)
//
// lora_te_text_model_… for the text encoder; "lycoris_" in place of "lora_unet_" is read too. docs/formats.md has them.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker::methods::files {

struct LycorisLayer {
  // By their names in the file: "hada_w1_a". float32.
  std::map<std::string, torch::Tensor> arrays;
  double alpha = 0;  // the change's factor is alpha / rank

  // Of its factors; 0 where nothing is factored, and the factor is 1.
  int64_t rank() const;
  double scale() const { return rank() == 0 ? 1 : alpha / static_cast<double>(rank()); }
};

struct LycorisFile {
  std::string method;  // method.kind: loha or lokr
  // By the layer's name in our files: "unet.{layer}", "text_encoder.text_model.{layer}".
  std::map<std::string, LycorisLayer> layers;
};

// Whether an array's name is one of such a file.
bool IsLycorisName(const std::string& name);

// NOT_FOUND and the like from the file; INVALID_ARGUMENT, with the path and a sentence, where it is no LoHa or LoKr of
// `sites` (a layer that they do not have, an array missing, Tucker's middle factors, DoRA's scale, not finite).
absl::StatusOr<LycorisFile> ReadLycoris(const std::string& path, const nn::TuningSites& sites);

// lora.safetensors in `folder`, which must exist; errors as WriteFileAtomically.
absl::Status WriteLycoris(const std::string& folder, const LycorisFile& file);

// What a trial's arrays are ("unet.{layer}.hada_w1_a"); `alpha_over_rank` of its settings.
LycorisFile LycorisFileOf(const std::string& method, const std::map<std::string, torch::Tensor>& arrays,
                          double alpha_over_rank);

}  // namespace loupe::worker::methods::files
