// The networks that an evaluation looks with.
#pragma once

#include <string>
#include <vector>

#include "analysis/metrics/feature_matrix.h"
#include "worker/base/model_store.h"
#include "worker/base/picture_networks.h"
#include "worker/evaluate/evaluate_base.h"

namespace loupe::worker::evaluate {

struct Viewer {
  std::string name;         // "clip"
  std::string description;  // folder or file, and its SHA-256
  // Before the names of its scores, which Inception's do not have: "clip_".
  std::string prefix;
  // Its Fréchet distance: "clip_fid" and "fid" as trials have them, "fd" after other prefixes.
  std::string frechet;
  base::PictureNetwork network;

  analysis::metrics::FeatureMatrix Embed(const std::vector<io::Image>& images) const;
  // LayerDiversity of them; two pictures at least, and a network with layers.
  double Diversity(const std::vector<io::Image>& images) const;
};

// Those that the request names, the scorer first. They stay in `models`. Throws UserError as ModelStore.
std::vector<Viewer> OpenViewers(const EvaluationRequest& request, base::ModelStore& models);

}  // namespace loupe::worker::evaluate
