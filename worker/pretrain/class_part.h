// The class-conditional bases' part of a pretraining: which classes there are, the network, its folder, its training.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/base_folder.h"
#include "worker/models/autoencoder_kl.h"
#include "worker/models/diffussm.h"
#include "worker/models/dit.h"
#include "worker/pretrain/class_stage.h"
#include "worker/pretrain/corpus.h"
#include "worker/train/network_training.h"

namespace loupe::worker::pretrain {

// The sections `dit` and `diffussm` of a recipe. Classes are the items' groups (EmojiItem::subgroup) in the order of
// their names; with `unconditional` there is one.
struct ClassPart {
  bool present = false;
  io::BaseKind kind = io::BaseKind::kDiT;
  bool unconditional = false;
  int64_t views = 1;  // as UNetPart's
  // Sizes; what a section does not have stays as it is. sample_size, channels and classes follow from the rest.
  models::DiTConfig dit{.out_channels = 8, .patch_size = 2, .layers = 6, .heads = 4, .head_width = 32};
  models::DiffuSSMConfig ssm{.width = 128, .layers = 6, .state_size = 32};
  ClassStageOptions options;
  train::NetworkTraining schedule;
  double sheet_guidance = 3;
  int64_t sheet_steps = 25;
};

struct ClassPartInputs {
  std::string folder;  // the base's
  std::string sheets;  // folder of the sheets
  uint64_t seed = 0;
  const Corpus* corpus = nullptr;
  torch::Tensor pictures;  // uint8 [all, 3, S, S]
  models::AutoencoderKL vae{nullptr};
  torch::Device device = torch::kCPU;
  // A batch of the training pictures' latents per view (ClassData's first two).
  std::function<void(ClassData&)> encode;
  std::function<absl::StatusOr<train::TrainingEnd>(train::Objective&, const train::NetworkTraining&)> train;
};

// The groups of the training items, sorted by bytes.
std::vector<std::string> ClassesOf(const Corpus& corpus);

// Writes the base's folder (model_index.json with the classes' names, scheduler/, transformer/ or ssm/) and trains.
absl::StatusOr<train::TrainingEnd> TrainClassPart(const ClassPart& part, const ClassPartInputs& inputs);

}  // namespace loupe::worker::pretrain
