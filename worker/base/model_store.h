// Bases and scorers, loaded once per process and kept for as long as their files stay what they were.
#pragma once

#include <torch/types.h>

#include <compare>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "common/settings/settings.h"
#include "worker/base/base_model.h"
#include "worker/base/picture_networks.h"

namespace loupe::worker::base {

template <typename Model>
struct LoadedModel {
  Model model;
  // SHA-256 over the folder's files (names and bytes): the model's identity in caches and provenance.
  std::string sha256;
  // Of the files that it was loaded from (file_stamp.h).
  std::string stamp;
};

// Not thread-safe. Keeps everything: a worker meets one base and one scorer as a rule.
class ModelStore {
 public:
  // `recorder`: of the bases' steps (BaseModel::recorder).
  explicit ModelStore(torch::Device device, std::shared_ptr<runtime::Recorder> recorder = nullptr)
      : device_(device), recorder_(std::move(recorder)) {}

  // Loads at the first call for `folder`; files that change while they are read are read again. Throws UserError naming
  // file and key when it cannot be loaded; std::runtime_error, for another try, when it could be before and its files
  // have changed since, or when they do not stop changing. The reference stays valid until ForgetChanged or ForgetAll.
  LoadedModel<BaseModel>& Base(const std::string& folder);
  // As its trials' settings have it: task.picture_size and task.positions (AtPictureSize).
  LoadedModel<BaseModel>& Base(const settings::Settings& settings);
  LoadedModel<ClipScorer>& Scorer(const std::string& folder);
  // Of a network that is a file, sha256 is the file's.
  LoadedModel<PictureNetwork>& Network(const PictureNetworkKind& kind, const std::string& path,
                                       const std::string& variant);
  // Null when the settings name none of the kind.
  LoadedModel<PictureNetwork>* Network(const PictureNetworkKind& kind, const settings::Settings& settings);

  // Whether ForgetChanged would drop any.
  bool Changed() const;
  // Between attempts: drops each model whose files are no longer those that it was loaded from. True when there was
  // one; then nothing that was computed from it may be used.
  bool ForgetChanged();
  void ForgetAll();

  torch::Device device() const { return device_; }

 private:
  template <typename Model, typename Key, typename Load, typename Digest>
  LoadedModel<Model>& Keep(std::map<Key, LoadedModel<Model>>& kept, const Key& key, const std::string& path,
                           const Load& load, const Digest& digest);

  const torch::Device device_;
  const std::shared_ptr<runtime::Recorder> recorder_;
  std::map<std::string, LoadedModel<BaseModel>> bases_;
  // By folder and size_note; their networks are those of bases_.
  std::map<std::string, LoadedModel<BaseModel>> resized_;
  std::map<std::string, LoadedModel<ClipScorer>> scorers_;
  struct NetworkKey {
    std::string name, path, variant;
    auto operator<=>(const NetworkKey&) const = default;
  };
  std::map<NetworkKey, LoadedModel<PictureNetwork>> networks_;
  std::set<std::string> ever_loaded_;  // paths
};

}  // namespace loupe::worker::base
