// Everything that trials share and that is costly: class pictures sampled from the base, latents, captions, embeddings
// of the data set and of the untuned base's pictures. Kept in memory for the process, and on disk by content for the
// machine.
#pragma once

#include <torch/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "analysis/metrics/feature_matrix.h"
#include "common/settings/settings.h"
#include "worker/base/model_store.h"
#include "worker/data/image_folder.h"
#include "worker/executor/tensor_cache.h"
#include "worker/sampling/picture_sampler.h"
#include "worker/score/picture_scores.h"
#include "worker/tasks/captioned.h"
#include "worker/tasks/dreambooth.h"

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
  // What the user is told of them: files left out or read with a warning; captions that the base's text tower cuts off.
  std::vector<std::string> picture_notes, prompt_notes;

  // The task's own pictures for losses on fixed rows: latents and their captions' contexts.
  const torch::Tensor& latents() const { return dreambooth ? dreambooth->instance.latents : captioned->latents; }
  torch::Tensor contexts() const {
    if (dreambooth) return dreambooth->instance.context.expand({latents().size(0), -1, -1});
    return captioned->contexts.index_select(0, captioned->caption_of);
  }
};

// Not thread-safe. All methods throw UserError for what the user can mend.
class TrialInputs {
 public:
  // Threads of the CPU's tensor code are set before: cached results depend on their number.
  TrialInputs(ModelStore& models, TensorCache cache);

  // `progress` hears of the sampling of class pictures, and of waiting for another worker that makes what is needed; it
  // may throw to end either. The class pictures' noise depends on the sweep's seed alone: all replicates and cells
  // share them, as they would share a folder.
  // Kept until Forget.
  const TaskInputs& Task(const Settings& settings, uint64_t sweep_seed, const SampleProgress& progress);

  // After ModelStore's ForgetChanged or ForgetAll: what was computed from the models that are gone.
  void Forget() { tasks_.clear(); }

  // Features of `count` pictures that the untuned base makes of the prompts (one, or one per picture) from this noise.
  // The base's taps must be empty.
  PictureFeatures BaseFeatures(const Settings& settings, const std::vector<std::string>& prompts, int64_t count,
                               uint64_t noise_seed, const SampleProgress& progress);

  // By every network that the settings name.
  PictureFeatures Features(const Settings& settings, const std::vector<Image>& images);
  // Embeds with the settings' scorer: one row per picture or text.
  analysis::FeatureMatrix Embed(const Settings& settings, const std::vector<Image>& images);
  analysis::FeatureMatrix EmbedTexts(const Settings& settings, const std::vector<std::string>& texts);
  // Null when the settings name none.
  LoadedModel<InceptionScorer>* InceptionOf(const Settings& settings);
  LoadedModel<DinoScorer>* DinoOf(const Settings& settings);

 private:
  TaskInputs MakeDreamBooth(const Settings& settings, uint64_t sweep_seed, const SampleProgress& progress);
  TaskInputs MakeFineTuning(const Settings& settings, const SampleProgress& progress);
  std::vector<Image> ClassPictures(const Settings& settings, uint64_t sweep_seed, const SampleProgress& progress);

  // The cached steps. Keys hold a version: what changes their results must change it.
  TensorMap Cached(const std::string& kind, const std::string& key, const std::function<TensorMap()>& make,
                   const SampleProgress& progress) const;
  torch::Tensor Contexts(const Settings& settings, const std::vector<std::string>& captions);  // one row each
  // Without a context. The pixels are the pictures' identity: how a file is decoded may change.
  EncodedPictures Latents(const Settings& settings, const std::vector<Image>& images, const SampleProgress& progress);
  // `pictures` is called when the entry is not there; `pictures_key` says what it gives.
  PictureFeatures CachedFeatures(const Settings& settings, const std::string& kind, const std::string& pictures_key,
                                 const std::function<std::vector<Image>()>& pictures, const SampleProgress& progress);
  PictureFeatures DataFeatures(const Settings& settings, const ImageFolder& folder, const SampleProgress& progress);

  ModelStore& models_;
  const TensorCache cache_;
  const std::string arithmetic_;
  std::map<std::string, TaskInputs> tasks_;  // by key
};

}  // namespace loupe::worker
