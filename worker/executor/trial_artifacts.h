// The files that a trial hands over beside its scores.
#pragma once

#include <map>
#include <string>

#include "worker/executor/attempt.h"
#include "worker/io/image.h"
#include "worker/methods/method.h"
#include "worker/score/picture_scores.h"

namespace loupe::worker::executor {

// Writes into the attempt's scratch folder and hands over from there. Everything throws Stopped when the lease is lost,
// UserError or std::runtime_error when a file cannot be written or stored.
class TrialArtifacts {
 public:
  TrialArtifacts(const AttemptSpec& spec, AttemptObserver& observer) : spec_(spec), observer_(observer) {}

  void Picture(const std::string& name, const io::Image& picture) const;
  // "embeddings{of}.npy", "dino{of}.npy", "effnet{of}.npy", "inception{of}.npy": those that have rows.
  void Features(const std::string& of, const score::PictureFeatures& features) const;
  void Embeddings(const std::string& stem, const analysis::metrics::FeatureMatrix& embeddings) const;
  // adapter.safetensors: the method's slot 0, with the whole cell in the metadata.
  void Adapter(const methods::Method& method, const std::string& base_sha256) const;

 private:
  void HandOver(const std::string& name, const std::string& media_type, const std::string& path) const;

  const AttemptSpec& spec_;
  AttemptObserver& observer_;
};

}  // namespace loupe::worker::executor
