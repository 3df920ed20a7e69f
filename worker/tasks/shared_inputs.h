// What tasks are made from and trials share because it is costly: pictures sampled from the base, latents, encoded
// captions, embeddings of the data set and of the untuned base's pictures. Kept on disk by content, for the machine.
#pragma once

#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

#include "analysis/metrics/feature_matrix.h"
#include "common/settings/settings.h"
#include "worker/base/model_store.h"
#include "worker/data/image_folder.h"
#include "worker/sampling/picture_sampler.h"
#include "worker/score/picture_scores.h"
#include "worker/tasks/picture_work.h"
#include "worker/tasks/tensor_cache.h"

namespace loupe::worker::tasks {

// The settings of sampling, as the trial's settings have them.
sampling::SampleOptions SampleOptionsFrom(const settings::Settings& settings);

// Pictures, encoded once.
struct EncodedPictures {
  torch::Tensor latents;   // latents_scaled, [n, C, h, w]
  torch::Tensor mirrored;  // of the pictures mirrored left to right; undefined when flips are off
};

// Not thread-safe. All methods throw UserError for what the user can mend.
class SharedInputs {
 public:
  // Threads of the CPU's tensor code are set before: cached results depend on their number.
  SharedInputs(base::ModelStore& models, TensorCache cache);

  base::BaseModel& Base(const settings::Settings& settings) { return models_.Base(settings).model; }
  // What identifies it in keys.
  const std::string& BaseDigest(const settings::Settings& settings) { return models_.Base(settings).sha256; }

  // Those of the prompts that the base's conditioner does not see whole, as sentences.
  std::vector<std::string> CutOffs(const settings::Settings& settings, const std::vector<std::string>& prompts);

  // These are kept in the cache. `progress` hears of sampling, and of waiting for another worker that makes what is
  // needed; it may throw to end either. The base must have no method attached.
  //
  // Pictures that the base makes of the prompt from this noise.
  std::vector<io::Image> SampledPictures(const settings::Settings& settings, const std::string& prompt, int64_t count,
                                         uint64_t seed, const sampling::SampleProgress& progress);
  // One row per caption, on the base's device.
  base::Condition Contexts(const settings::Settings& settings, const std::vector<std::string>& captions);
  // Mirrored too where task.flip says so. The pixels are the pictures' identity: how a file is decoded may change.
  EncodedPictures Latents(const settings::Settings& settings, const std::vector<io::Image>& images,
                          const sampling::SampleProgress& progress);
  score::PictureFeatures DataFeatures(const settings::Settings& settings, const data::ImageFolder& folder,
                                      const sampling::SampleProgress& progress);
  // Pictures that the base makes of the prompts (one, or one per picture) from this noise: the first of `count`, as
  // many as a sheet to look at has.
  std::vector<io::Image> BasePictures(const settings::Settings& settings, const std::vector<std::string>& prompts,
                                      int64_t count, uint64_t noise_seed, const sampling::SampleProgress& progress);
  // Features of all `count` of them.
  score::PictureFeatures BaseFeatures(const settings::Settings& settings, const std::vector<std::string>& prompts,
                                      int64_t count, uint64_t noise_seed, const sampling::SampleProgress& progress);

  // As the base makes them with whatever is attached to it; kept nowhere.
  std::vector<io::Image> Sample(const settings::Settings& settings, const PictureOrder& order,
                                const sampling::SampleProgress& progress);
  // What each slot of the attached method's pack makes, all together (sampling/picture_sampler.h): as many as there are
  // orders, alike in their numbers of prompts and pictures. By this process alone.
  std::vector<std::vector<io::Image>> SampleSlots(const settings::Settings& settings,
                                                  const std::vector<PictureOrder>& orders,
                                                  const sampling::SampleProgress& progress);
  // By every network that the settings name.
  score::PictureFeatures Features(const settings::Settings& settings, const std::vector<io::Image>& images);
  // Embeds with the settings' scorer: one row per picture or text.
  analysis::metrics::FeatureMatrix Embed(const settings::Settings& settings, const std::vector<io::Image>& images);
  analysis::metrics::FeatureMatrix EmbedTexts(const settings::Settings& settings,
                                              const std::vector<std::string>& texts);

  // While it is set, sampling and embedding are its. It must outlive that; null: this process alone.
  void SetHelp(PictureHelp* help) { help_ = help; }
  // Pictures first … first + count − 1 of the order, by this process alone. `first` is a multiple of sample.chunk.
  std::vector<io::Image> SampleHere(const settings::Settings& settings, const PictureOrder& order, int64_t first,
                                    int64_t count, const sampling::SampleProgress& progress);
  // By this process alone, in parts of PartOf pictures. Throws NotFinite.
  torch::Tensor EmbedHere(const settings::Settings& settings, const std::string& network,
                          const std::vector<io::Image>& images);
  static int64_t PartOf(const std::string& network);

  // What is kept of all this, and of what a task makes itself, for this machine's arithmetic. Keys hold a version: what
  // changes their results must change it.
  train::TensorMap Kept(const std::string& kind, const std::string& key, const std::function<train::TensorMap()>& make,
                        const sampling::SampleProgress& progress) const;

 private:
  analysis::metrics::FeatureMatrix EmbedBy(const settings::Settings& settings, const std::string& network,
                                           const std::vector<io::Image>& images);
  // `pictures` is called when the entry is not there; `pictures_key` says what it gives.
  score::PictureFeatures CachedFeatures(const settings::Settings& settings, const std::string& kind,
                                        const std::string& pictures_key,
                                        const std::function<std::vector<io::Image>()>& pictures,
                                        const sampling::SampleProgress& progress);

  base::ModelStore& models_;
  const TensorCache cache_;
  const std::string arithmetic_;
  PictureHelp* help_ = nullptr;
};

}  // namespace loupe::worker::tasks
