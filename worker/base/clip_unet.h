// The networks of Stable Diffusion v1 and v2 as a denoiser and a conditioner.
#pragma once

#include <memory>

#include "worker/base/denoiser.h"
#include "worker/io/clip_tokenizer.h"
#include "worker/models/clip.h"
#include "worker/models/unet_2d_condition.h"

namespace loupe::worker {

// Both share the network that they are given.
std::shared_ptr<Denoiser> MakeUNetDenoiser(UNet2DConditionModel unet);
std::shared_ptr<Conditioner> MakeClipConditioner(CLIPTextModel text_encoder, ClipTokenizer tokenizer);

// Token ids of prompts, [N, length], int64, CPU.
torch::Tensor TokeniseTo(const ClipTokenizer& tokenizer, const std::vector<std::string>& prompts, int64_t length);

}  // namespace loupe::worker
