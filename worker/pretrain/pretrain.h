// `loupe-worker pretrain`: a base model from a list of emoji and nothing else.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "worker/pretrain/pretrain_config.h"
#include "worker/train/network_training.h"

namespace loupe::worker::pretrain {

// Runs the parts in order: tokenizer, autoencoder, CLIP, UNet. Under `out`:
//   base/    the diffusers folder (with `unet`), float16, loadable from the moment the UNet first writes into it
//   clip/    the transformers CLIPModel folder (with `clip`), for scoring
//   work/    one checkpoint per part
//   sheets/  reconstructions, and samples beside the real pictures
// Called again with the same config and `out` it goes on where it was, whatever ended it; a finished part is not
// trained again. Everything but random draws is computed on `device`; a run may go on on another one, with other
// rounding. Held-out emoji are used for nothing but the reported measurements. OK when everything is finished or the
// limit was reached; errors name the file or the part.
absl::Status Pretrain(const PretrainConfig& config, const std::string& out, const train::TrainingLimit& limit,
                      torch::Device device = torch::kCPU);

}  // namespace loupe::worker::pretrain
