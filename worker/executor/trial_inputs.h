// Everything that trials share and that is costly: class pictures sampled from the base, latents, captions, embeddings of
// references and of the untuned base's pictures. Kept in memory for the process, and on disk by content for the machine.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "analysis/metrics/feature_matrix.h"
#include "common/settings.h"
#include "worker/data/content_cache.h"
#include "worker/executor/model_store.h"
#include "worker/score/picture_sampler.h"
#include "worker/score/picture_scores.h"
#include "worker/train/dreambooth.h"

namespace loupe::worker {

// The settings of sampling, as the trial's settings have them.
SampleOptions SampleOptionsFrom(const Settings& settings);

// What one DreamBooth task needs, the same for all its cells.
struct DreamBoothInputs {
  std::shared_ptr<const DreamBoothData> data;
  ScoreReferences references;
  std::string subject_sha256;
};

// Not thread-safe. All methods throw UserError for what the user can mend.
class TrialInputs {
 public:
  TrialInputs(ModelStore& models, ContentCache cache) : models_(models), cache_(std::move(cache)) {}

  // `progress` hears of the sampling of class pictures and may throw to end it. The class pictures' noise depends on the
  // sweep's seed alone: all replicates and cells share them, as they would share a folder.
  const DreamBoothInputs& DreamBooth(const Settings& settings, uint64_t sweep_seed, const SampleProgress& progress);

  // Embeddings [samples, d] of what the untuned base makes of `prompt` from this noise. The base's taps must be empty.
  const analysis::FeatureMatrix& BaseEmbeddings(const Settings& settings, const std::string& prompt, uint64_t noise_seed,
                                                const SampleProgress& progress);

  // Embeds pictures with the settings' scorer.
  analysis::FeatureMatrix Embed(const Settings& settings, const std::vector<Image>& images);

 private:
  std::vector<Image> ClassPictures(const Settings& settings, uint64_t sweep_seed, const SampleProgress& progress);

  ModelStore& models_;
  const ContentCache cache_;
  std::map<std::string, DreamBoothInputs> dreambooth_;            // by key
  std::map<std::string, analysis::FeatureMatrix> base_embeddings_;  // by key
};

}  // namespace loupe::worker
