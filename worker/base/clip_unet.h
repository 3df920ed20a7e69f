// The networks of Stable Diffusion v1, v2 and XL as a denoiser and a conditioner.
//
// XL's condition, [N, tokens + rows, context width]: the two text towers' hidden states side by side, and behind them,
// in as many rows as it takes, the second tower's vector of the whole prompt, filled up with zeros.
#pragma once

#include <memory>

#include "worker/base/denoiser.h"
#include "worker/io/clip_tokenizer.h"
#include "worker/models/clip.h"
#include "worker/models/unet_2d_condition.h"

namespace loupe::worker::base {

// All share the networks that they are given.
// `downscale`: pixels per latent, as an XL network is told sizes: its pictures are whole ones of the size that they are
// made in, as diffusers' pipelines have it where nothing else is asked for.
std::shared_ptr<Denoiser> MakeUNetDenoiser(models::UNet2DConditionModel unet, int64_t downscale = 8);
std::shared_ptr<Conditioner> MakeClipConditioner(models::CLIPTextModel text_encoder, io::ClipTokenizer tokenizer);

// XL's two text towers. They stay as they are: methods find no layers in them, and no words can be added.
struct TextTower {
  models::CLIPTextModel network{nullptr};
  io::ClipTokenizer tokenizer;
};
// `zero_empty`: the empty prompt is zeros, not what the towers say of it (model_index.json's
// force_zeros_for_empty_prompt).
std::shared_ptr<Conditioner> MakeTwoTowerConditioner(TextTower first, TextTower second, bool zero_empty);

// Token ids of prompts, [N, length], int64, CPU.
torch::Tensor TokeniseTo(const io::ClipTokenizer& tokenizer, const std::vector<std::string>& prompts, int64_t length);

}  // namespace loupe::worker::base
