// Writing what diffusers and transformers load: the config files and float16 weights of each part.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "worker/io/clip_tokenizer.h"
#include "worker/pretrain/pretrain_config.h"

namespace loupe::worker::pretrain {

// The release whose files these are laid out like; both libraries only warn of newer ones.
inline constexpr char kDiffusersVersion[] = "0.42.1";

// All write into an existing `folder`, each file whole or not at all, and give the same bytes for the same arguments.

// vae/config.json. `scaling_factor`: 1 over the latents' standard deviation.
absl::Status WriteVaeConfig(const std::string& folder, const VaePart& part, int64_t picture_size,
                            double scaling_factor);
// unet/config.json.
absl::Status WriteUNetConfig(const std::string& folder, const UNetPart& part, int64_t latent_size,
                             int64_t context_width);
// config.json of the whole CLIPModel, and preprocessor_config.json.
absl::Status WriteClipConfig(const std::string& folder, const ClipPart& part, const io::ClipTokenizer& tokenizer,
                             int64_t picture_size);
// text_encoder/config.json: the text tower alone.
absl::Status WriteTextEncoderConfig(const std::string& folder, const ClipPart& part,
                                    const io::ClipTokenizer& tokenizer);
// scheduler/scheduler_config.json (DPM-Solver++ on the UNet's noise schedule); `folder` is the scheduler's.
absl::Status WriteSchedulerConfig(const std::string& folder, const UNetStageOptions& options);
// model_index.json; `folder` is the base's.
absl::Status WriteModelIndex(const std::string& folder);

// The network's parameters in float16, each name after `prefix`. FAILED_PRECONDITION names one that is not finite.
absl::Status WriteHalf(const std::string& path, const torch::nn::Module& network, const std::string& prefix = "");
absl::Status WriteHalf(const std::string& path, const std::map<std::string, torch::Tensor>& weights);

}  // namespace loupe::worker::pretrain
