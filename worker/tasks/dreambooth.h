// DreamBooth with prior preservation (Ruiz et al. 2023, arXiv 2208.12242 §3.2): the subject's pictures under the prompt
// with the rare token, and as many pictures of the class, sampled from the frozen base, under the class prompt.
//
//   loss = mean over the subject's rows of |ε̂ − ε|² + w · mean over the class rows
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "worker/tasks/shared_inputs.h"
#include "worker/tasks/task.h"
#include "worker/train/batch_source.h"

namespace loupe::worker::tasks {

// Pictures of one caption, encoded once.
struct CaptionedLatents {
  torch::Tensor latents;    // latents_scaled, [n, C, h, w]
  torch::Tensor mirrored;   // of the pictures mirrored left to right; undefined when flips are off
  base::Condition context;  // one row
  std::string caption;
};

struct DreamBoothData {
  CaptionedLatents instance;
  CaptionedLatents prior;  // latents undefined: no prior preservation
  double prior_weight = 1;
};

struct DreamBoothSeeds {
  uint64_t instance_order = 0;
  uint64_t class_order = 0;
  uint64_t flips = 0;
};

// Batches of `batch` subject rows, then `batch` class rows. `data` is shared between trials.
std::unique_ptr<train::BatchSource> MakeDreamBoothSource(std::shared_ptr<const DreamBoothData> data, int64_t batch,
                                                         const DreamBoothSeeds& seeds);

// Pictures are sampled from the instance prompt and compared with the subject's pictures. Its own scores: what the
// tuned model still makes of the class (clip_pres, clip_div, dino_…), and how far it hears the identifier
// (noise_difference). The class pictures' noise depends on the sweep's seed alone: all replicates and cells share them,
// as they would share a folder.
std::unique_ptr<const Task> MakeDreamBoothTask(const settings::Settings& settings, uint64_t sweep_seed,
                                               SharedInputs& inputs, const sampling::SampleProgress& progress);

}  // namespace loupe::worker::tasks
