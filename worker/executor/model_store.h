// Bases and scorers, loaded once per process and kept.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <utility>

#include "worker/models/base_model.h"
#include "worker/models/inception.h"
#include "worker/models/vit.h"

namespace loupe::worker {

template <typename Model>
struct LoadedModel {
  Model model;
  // SHA-256 over the folder's files (names and bytes): the model's identity in caches and provenance.
  std::string sha256;
};

// Not thread-safe. Keeps everything: a worker meets one base and one scorer as a rule.
class ModelStore {
 public:
  explicit ModelStore(torch::Device device) : device_(device) {}

  // Loads at the first call for `folder`. Throws UserError naming file and key when it cannot be loaded. The reference
  // stays valid for the store's life.
  LoadedModel<BaseModel>& Base(const std::string& folder);
  LoadedModel<ClipScorer>& Scorer(const std::string& folder);
  LoadedModel<DinoScorer>& Dino(const std::string& folder);
  // sha256 is the weight file's.
  LoadedModel<InceptionScorer>& InceptionNetwork(const std::string& path, InceptionResize resize);

  torch::Device device() const { return device_; }

 private:
  const torch::Device device_;
  std::map<std::string, LoadedModel<BaseModel>> bases_;
  std::map<std::string, LoadedModel<ClipScorer>> scorers_;
  std::map<std::string, LoadedModel<DinoScorer>> dinos_;
  std::map<std::pair<std::string, InceptionResize>, LoadedModel<InceptionScorer>> inceptions_;
};

}  // namespace loupe::worker
