#include "worker/evaluate/picture_networks.h"

#include <torch/utils.h>

#include <algorithm>
#include <cstddef>

#include "fmt/format.h"
#include "worker/evaluate/layer_diversity.h"
#include "worker/runtime/user_error.h"
#include "worker/tasks/tensor_conversion.h"

namespace loupe::worker::evaluate {
namespace {

constexpr size_t kPart = 32;  // pictures at a time: bounds memory

// Calls `body` with so many pictures at a time, in order.
template <typename Body>
void InParts(const std::vector<io::Image>& images, const Body& body) {
  for (size_t first = 0; first < images.size(); first += kPart) {
    const auto begin = images.begin() + static_cast<std::ptrdiff_t>(first);
    body(std::vector<io::Image>(begin, begin + static_cast<std::ptrdiff_t>(std::min(kPart, images.size() - first))));
  }
}

}  // namespace

analysis::metrics::FeatureMatrix PictureNetwork::Embed(const std::vector<io::Image>& images) const {
  std::vector<torch::Tensor> parts;
  InParts(images, [&](const std::vector<io::Image>& part) { parts.push_back(embed(part)); });
  return tasks::FeaturesFromTensor(torch::cat(parts));
}

double PictureNetwork::Diversity(const std::vector<io::Image>& images) const {
  torch::NoGradGuard no_grad;
  LayerDiversity diversity;
  InParts(images, [&](const std::vector<io::Image>& part) { diversity.Add(layers(part)); });
  return diversity.Value();
}

std::vector<PictureNetwork> OpenPictureNetworks(const EvaluationRequest& request, base::ModelStore& models) {
  std::vector<PictureNetwork> networks;
  auto& scorer = models.Scorer(request.scorer);
  networks.push_back({.name = "clip",
                      .description = fmt::format("{}, SHA-256 {}", request.scorer, scorer.sha256),
                      .prefix = "clip_",
                      .frechet = "clip_fid",
                      .embed = [clip = scorer.model](
                                   const std::vector<io::Image>& images) mutable { return clip.EmbedImages(images); },
                      .layers =
                          [clip = scorer.model](const std::vector<io::Image>& images) mutable {
                            return clip.clip->vision_model->PatchLayers(
                                clip.preprocessing.Apply(images).to(clip.clip->parameters().front().options()));
                          }});
  if (!request.dino.empty()) {
    auto& dino = models.Dino(request.dino);
    networks.push_back(
        {.name = "dino",
         .description = fmt::format("{}, SHA-256 {}", request.dino, dino.sha256),
         .prefix = "dino_",
         .frechet = "dino_fd",
         .embed = [vit = dino.model](const std::vector<io::Image>& images) mutable { return vit.EmbedImages(images); },
         .layers = {}});
  }
  if (!request.inception.empty()) {
    auto& inception = models.InceptionNetwork(request.inception, models::InceptionResize::kPytorchFid);
    networks.push_back(
        {.name = "inception",
         .description = fmt::format("{}, SHA-256 {}", request.inception, inception.sha256),
         .prefix = "",
         .frechet = "fid",
         .embed = [network = inception.model](
                      const std::vector<io::Image>& images) mutable { return network.EmbedImages(images); },
         .layers = {}});
  }
  if (!request.efficientnet.empty()) {
    auto& effnet = models.EfficientNetwork(request.efficientnet);
    networks.push_back(
        {.name = "effnet",
         .description = fmt::format("{}, SHA-256 {}", request.efficientnet, effnet.sha256),
         .prefix = "effnet_",
         .frechet = "effnet_fd",
         .embed = [network = effnet.model](
                      const std::vector<io::Image>& images) mutable { return network.EmbedImages(images); },
         .layers =
             [its = effnet.model](const std::vector<io::Image>& images) mutable {
               return its.network->Stages(
                   its.preprocessing.Apply(images).to(its.network->parameters().front().options()));
             }});
  }
  return networks;
}

}  // namespace loupe::worker::evaluate
