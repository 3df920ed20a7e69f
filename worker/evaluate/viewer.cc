#include "worker/evaluate/viewer.h"

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

analysis::metrics::FeatureMatrix Viewer::Embed(const std::vector<io::Image>& images) const {
  std::vector<torch::Tensor> parts;
  InParts(images, [&](const std::vector<io::Image>& part) { parts.push_back(network.embed(part)); });
  return tasks::FeaturesFromTensor(torch::cat(parts));
}

double Viewer::Diversity(const std::vector<io::Image>& images) const {
  torch::NoGradGuard no_grad;
  LayerDiversity diversity;
  InParts(images, [&](const std::vector<io::Image>& part) { diversity.Add(network.layers(part)); });
  return diversity.Value();
}

std::vector<Viewer> OpenViewers(const EvaluationRequest& request, base::ModelStore& models) {
  std::vector<Viewer> viewers;
  auto& scorer = models.Scorer(request.scorer);
  viewers.push_back(
      {.name = "clip",
       .description = fmt::format("{}, SHA-256 {}", request.scorer, scorer.sha256),
       .prefix = "clip_",
       .frechet = "clip_fid",
       .network = {.embed = [clip = scorer.model](
                                const std::vector<io::Image>& images) mutable { return clip.EmbedImages(images); },
                   .layers =
                       [clip = scorer.model](const std::vector<io::Image>& images) mutable {
                         return clip.clip->vision_model->PatchLayers(
                             clip.preprocessing.Apply(images).to(clip.clip->parameters().front().options()));
                       }}});
  for (const base::PictureNetworkKind& kind : base::PictureNetworkKinds()) {
    const auto named = request.networks.find(kind.name);
    if (named == request.networks.end() || named->second.empty()) continue;
    const auto& loaded = models.Network(kind, named->second, "");
    viewers.push_back({.name = kind.name,
                       .description = fmt::format("{}, SHA-256 {}", named->second, loaded.sha256),
                       .prefix = kind.score_prefix,
                       .frechet = kind.score_prefix.empty() ? "fid" : kind.score_prefix + "fd",
                       .network = loaded.model});
  }
  return viewers;
}

}  // namespace loupe::worker::evaluate
