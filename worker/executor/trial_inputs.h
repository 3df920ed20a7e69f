// Everything that trials share and that is costly: class pictures sampled from the base, latents, captions, embeddings of
// references and of the untuned base's pictures. Kept in memory for the process, and on disk by content for the machine.
#pragma once

#include <torch/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "analysis/metrics/feature_matrix.h"
#include "common/settings.h"
#include "worker/data/content_cache.h"
#include "worker/executor/model_store.h"
#include "worker/score/picture_sampler.h"
#include "worker/score/picture_scores.h"
#include "worker/train/captioned.h"
#include "worker/train/dreambooth.h"

namespace loupe::worker {

// The settings of sampling, as the trial's settings have them.
SampleOptions SampleOptionsFrom(const Settings& settings);

// What all cells of a task share.
struct TaskInputs {
  // One of the two.
  std::shared_ptr<const DreamBoothData> dreambooth;
  std::shared_ptr<const CaptionedPictures> captioned;

  // Without `texts` and `own_pictures` where these depend on the replicate (fine-tuning).
  ScoreReferences references;
  // Fine-tuning: each picture's caption.
  std::vector<std::string> captions;
  // Of the training pictures and captions.
  std::string data_sha256;

  // The task's own pictures for losses on fixed rows: latents and their captions' contexts.
  const torch::Tensor& latents() const { return dreambooth ? dreambooth->instance.latents : captioned->latents; }
  torch::Tensor contexts() const {
    if (dreambooth) return dreambooth->instance.context.expand({latents().size(0), -1, -1});
    return captioned->contexts.index_select(0, captioned->caption_of);
  }
};

// What the scores of a set of pictures are computed from.
struct PictureFeatures {
  analysis::FeatureMatrix clip;
  analysis::FeatureMatrix inception;  // no rows unless score.inception is set
};

// Not thread-safe. All methods throw UserError for what the user can mend.
class TrialInputs {
 public:
  TrialInputs(ModelStore& models, ContentCache cache) : models_(models), cache_(std::move(cache)) {}

  // `progress` hears of the sampling of class pictures and may throw to end it. The class pictures' noise depends on the
  // sweep's seed alone: all replicates and cells share them, as they would share a folder.
  const TaskInputs& Task(const Settings& settings, uint64_t sweep_seed, const SampleProgress& progress);

  // Features of what the untuned base makes of the prompts (one, or one per sample) from this noise. The
  // base's taps must be empty.
  const PictureFeatures& BaseFeatures(const Settings& settings, const std::vector<std::string>& prompts,
                                      uint64_t noise_seed, const SampleProgress& progress);

  PictureFeatures Features(const Settings& settings, const std::vector<Image>& images);
  // Embeds with the settings' scorer: one row per picture or text.
  analysis::FeatureMatrix Embed(const Settings& settings, const std::vector<Image>& images);
  analysis::FeatureMatrix EmbedTexts(const Settings& settings, const std::vector<std::string>& texts);

 private:
  TaskInputs MakeDreamBooth(const Settings& settings, uint64_t sweep_seed, const SampleProgress& progress);
  TaskInputs MakeFineTuning(const Settings& settings);
  LoadedModel<InceptionScorer>* InceptionOf(const Settings& settings);
  std::vector<Image> ClassPictures(const Settings& settings, uint64_t sweep_seed, const SampleProgress& progress);

  ModelStore& models_;
  const ContentCache cache_;
  std::map<std::string, TaskInputs> tasks_;                         // by key
  std::map<std::string, PictureFeatures> base_features_;            // by key
};

}  // namespace loupe::worker
