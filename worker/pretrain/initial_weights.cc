#include "worker/pretrain/initial_weights.h"

#include <torch/utils.h>

#include <cmath>

#include "worker/nn/leaf_layers.h"

namespace loupe::worker::pretrain {
namespace {

// [side·side, width]: sines and cosines of a place's two coordinates in [−1, 1], at wavelengths from 2 down to 2/20.
torch::Tensor PlaceWaves(int64_t side, int64_t width) {
  const int64_t quarter = width / 4;
  const auto frequency = M_PI * torch::exp(torch::arange(quarter) / static_cast<double>(quarter) * std::log(20.0));
  const auto place = (torch::arange(side) + 0.5) / static_cast<double>(side) * 2 - 1;
  const auto phase = place.unsqueeze(1) * frequency;
  const auto waves = torch::cat({phase.sin(), phase.cos()}, 1);  // [side, width/2]
  const auto across = waves.unsqueeze(0).expand({side, side, -1}), down = waves.unsqueeze(1).expand({side, side, -1});
  return torch::cat({across, down}, -1).reshape({side * side, -1});
}

}  // namespace

void ZeroLastLayers(torch::nn::Module& network, const std::vector<std::string>& endings) {
  torch::NoGradGuard no_grad;
  for (auto& item : network.named_parameters()) {
    for (const std::string& ending : endings) {
      if (item.key().ends_with(ending + ".weight") || item.key().ends_with(ending + ".bias")) item.value().zero_();
    }
  }
}

void InitialiseClip(models::CLIPModel& clip, at::Generator random) {
  nn::InitialiseAsTorch(*clip, random);
  torch::NoGradGuard no_grad;
  for (auto& item : clip->named_parameters()) {
    if (item.key().find("embedding") != std::string::npos && item.value().dim() <= 2) {
      item.value().normal_(0, 0.02, random);
    }
  }
  const models::ClipVisionConfig& vision = clip->vision_model->config();
  if (vision.encoder.hidden_size % 4 == 0) {
    auto places = clip->named_parameters()["vision_model.embeddings.position_embedding.weight"];
    places.slice(0, 1).copy_(0.5 * PlaceWaves(vision.image_size / vision.patch_size, vision.encoder.hidden_size));
  }
  ZeroLastLayers(*clip, {"out_proj", "fc2"});
  clip->logit_scale.fill_(std::log(20.0));
}

}  // namespace loupe::worker::pretrain
