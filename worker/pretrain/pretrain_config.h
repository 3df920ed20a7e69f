// configs/bases/*.yaml: what `loupe-worker pretrain` trains, and for how long.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/pretrain/bpe_training.h"
#include "worker/pretrain/class_part.h"
#include "worker/pretrain/clip_stage.h"
#include "worker/pretrain/unet_stage.h"
#include "worker/pretrain/vae_stage.h"
#include "worker/train/network_training.h"

namespace loupe::worker::pretrain {

// Where a part comes from. At most one of the two: `from` takes the part as it is from a finished folder and trains
// nothing; `init_from` starts its training from there instead of from random numbers.
struct PartSource {
  std::string from;
  std::string init_from;
};

struct TokenizerPart {
  bool present = false;
  PartSource source;
  BpeOptions bpe;
  int64_t max_length = 32;
};

struct VaePart {
  bool present = false;
  PartSource source;
  std::vector<int64_t> channels = {16, 32, 64};  // outside in; each but the last halves the picture
  int64_t groups = 8;
  VaeStageOptions options;
  train::NetworkTraining schedule;
};

struct ClipPart {
  bool present = false;
  PartSource source;
  int64_t width = 128;  // of the text tower, and so of what conditions the UNet
  int64_t inner = 256;  // of the layers between
  int64_t heads = 4;
  int64_t text_layers = 3;
  int64_t image_width = 160;
  int64_t image_inner = 320;
  int64_t image_heads = 10;  // many: each can look at a place of its own
  int64_t image_layers = 3;
  int64_t patch = 16;
  int64_t projection = 128;
  ClipStageOptions options;
  train::NetworkTraining schedule;
};

struct UNetPart {
  bool present = false;
  PartSource source;
  std::vector<int64_t> channels = {64, 96, 160};  // cross-attention in all but the last, and in the middle
  int64_t groups = 16;
  int64_t heads = 4;
  int64_t views = 1;  // of each picture: as it is, and moved by up to two pixels; half of what is trained on is moved
  int64_t mixed_captions = 6;  // captions of name and keywords per picture, beside the name and "a photo of" it
  UNetStageOptions options;
  train::NetworkTraining schedule;
  double sheet_guidance = 3;
  int64_t sheet_steps = 25;
};

struct PretrainConfig {
  uint64_t seed = 0;
  int threads = 1;    // of LibTorch; another number gives other roundings
  std::string items;  // the list of emoji, drawn from the font
  std::vector<std::string>
      pictures;      // or, in place of it: folders as render-emoji --styled and render-photographs write them
  std::string font;  // a colour font; empty: Noto Color Emoji where Debian puts it
  int64_t picture_size = 64;
  TokenizerPart tokenizer;
  VaePart vae;
  ClipPart clip;
  std::string text_encoder_from;  // the UNet's text tower from a finished folder, instead of the trained CLIP's
  // At most one of these three.
  UNetPart unet;
  ClassPart dit, diffussm{.kind = io::BaseKind::kDiffuSSM};

  // Parts that the file does not name are neither trained nor written. INVALID_ARGUMENT names file, line and key: an
  // unknown key, a value of the wrong kind or out of range, a part that needs one that is absent. Paths are as given.
  static absl::StatusOr<PretrainConfig> Read(const std::string& path);
};

}  // namespace loupe::worker::pretrain
