// The networks that an evaluation looks with.
#pragma once

#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

#include "analysis/metrics/feature_matrix.h"
#include "worker/base/model_store.h"
#include "worker/evaluate/evaluate_base.h"

namespace loupe::worker::evaluate {

struct PictureNetwork {
  std::string name;         // "clip"
  std::string description;  // folder or file, and its SHA-256
  // Before the names of its scores, which Inception's do not have: "clip_".
  std::string prefix;
  // Its Fréchet distance: "clip_fid" and "fid" as trials have them, "fd" after other prefixes.
  std::string frechet;
  // [N, d] of all pictures; and per layer [N, positions, channels] of a few, undefined where a network has none to
  // tell.
  std::function<torch::Tensor(const std::vector<io::Image>&)> embed;
  std::function<std::vector<torch::Tensor>(const std::vector<io::Image>&)> layers;

  analysis::metrics::FeatureMatrix Embed(const std::vector<io::Image>& images) const;
  // LayerDiversity of them; two pictures at least, and a network with layers.
  double Diversity(const std::vector<io::Image>& images) const;
};

// Those that the request names, the scorer first. They stay in `models`. Throws UserError as ModelStore.
std::vector<PictureNetwork> OpenPictureNetworks(const EvaluationRequest& request, base::ModelStore& models);

}  // namespace loupe::worker::evaluate
