// What of a network a method can act on, and how to find it: blocks with taps, and layers by their checkpoint names.
#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "worker/nn/leaf_layers.h"
#include "worker/nn/tappable.h"
#include "worker/nn/taps.h"

namespace loupe::worker::io {
class ClipTokenizer;  // clip_tokenizer.h
}  // namespace loupe::worker::io

namespace loupe::worker::nn {

// A leaf layer; `layer` lives as long as its network.
struct LayerSite {
  // The module's name in the checkpoint: "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q".
  std::string name;
  LeafLayer* layer = nullptr;
};

// Where a conditioner makes ids of prompts. A method may put a reading of its own in the slot, for its trials' rows:
// the same tokenizer with words added, whose ids no row of the token embedding has (a hook there gives them vectors).
struct PromptSite {
  const io::ClipTokenizer* tokenizer = nullptr;
  PackSlot<const io::ClipTokenizer> slot;
};

// All lists in registration order (for a UNet: way down, middle, way up; what is outside of the blocks before them).
struct TuningSites {
  std::vector<TappableBlock> blocks;  // of the denoiser
  std::vector<LayerSite> denoiser;
  std::vector<LayerSite> conditioner;  // the text encoder's, under their names without "text_model."; may be empty
  PromptSite* prompts = nullptr;       // null where prompts are no texts
};

// `conditioner` may be null.
TuningSites SitesIn(torch::nn::Module& denoiser, torch::nn::Module* conditioner = nullptr,
                    PromptSite* prompts = nullptr);

}  // namespace loupe::worker::nn
