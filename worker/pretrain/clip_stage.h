// Training CLIP's two towers on pictures and their captions, with the image tower also taught shape.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "worker/io/clip_tokenizer.h"
#include "worker/models/clip.h"
#include "worker/pretrain/corpus.h"
#include "worker/pretrain/shape_descriptor.h"
#include "worker/train/network_training.h"

namespace loupe::worker::pretrain {

struct ClipStageOptions {
  int64_t batch = 128;       // half of them with captions, half neighbours of those in shape, strongly changed
  double text_weight = 0.3;  // of the contrastive loss between pictures and captions
  double soft_share = 0.2;   // of the caption targets that goes to other captions by shared words
  double aim_weight = 5;     // of 1 − cosine between a picture's embedding and its descriptor
  double shape_weight = 5;   // of the squared difference between the tower's cosines and the descriptor's
  double near_weight = 4;    // pairs count 1 + near_weight · max(0, the descriptor's cosine): near pairs are rare
  int64_t neighbours = 12;   // a picture's partner in the batch is one of its this many nearest
};

// Pixels as the image tower wants them: unit [N, 3, S, S] in [0, 1], normalised with CLIP's mean and deviation.
torch::Tensor ClipNormalised(const torch::Tensor& unit);

class ClipStage : public train::Objective {
 public:
  using LookFunction = std::function<absl::StatusOr<std::string>(int64_t step)>;

  // pictures: [N, 3, S, S], uint8, row i of items[i]. `tokenizer` outlives the stage.
  ClipStage(models::CLIPModel network, const io::ClipTokenizer& tokenizer, std::vector<data::EmojiItem> items,
            torch::Tensor pictures, int64_t max_length, const ClipStageOptions& options, uint64_t seed,
            LookFunction look);

  std::string name() const override { return "clip"; }
  torch::nn::Module& network() override { return *network_; }
  torch::Tensor Loss(int64_t step, std::map<std::string, torch::Tensor>& parts) override;
  absl::StatusOr<std::string> Look(int64_t step) override { return look_(step); }

 private:
  torch::Tensor CaptionIds(int64_t step, const torch::Tensor& batch) const;

  models::CLIPModel network_;
  const io::ClipTokenizer& tokenizer_;
  std::vector<data::EmojiItem> items_;
  torch::Tensor pictures_;  // float32 in [0, 1]
  int64_t max_length_;
  ClipStageOptions options_;
  uint64_t seed_;
  LookFunction look_;
  ShapeDescriptor descriptor_;
  torch::Tensor neighbours_;  // [N, neighbours], int64; a picture is its own first
  torch::Tensor likeness_;    // [N, N], WordLikeness
};

}  // namespace loupe::worker::pretrain
