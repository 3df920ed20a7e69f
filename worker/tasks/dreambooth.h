// DreamBooth with prior preservation (Ruiz et al. 2023, arXiv 2208.12242 §3.2): the subject's pictures under the prompt
// with the rare token, and as many pictures of the class, sampled from the frozen base, under the class prompt.
//
//   loss = mean over the subject's rows of |ε̂ − ε|² + w · mean over the class rows
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>

#include "worker/tasks/batch_source.h"

namespace loupe::worker {

// Pictures of one caption, encoded once.
struct EncodedPictures {
  torch::Tensor latents;   // latents_scaled, [n, C, h, w]
  torch::Tensor mirrored;  // of the pictures mirrored left to right; undefined when flips are off
  torch::Tensor context;   // [1, text tokens, width]
};

struct DreamBoothData {
  EncodedPictures instance;
  EncodedPictures prior;  // latents undefined: no prior preservation
  double prior_weight = 1;
};

struct DreamBoothSeeds {
  uint64_t instance_order = 0;
  uint64_t class_order = 0;
  uint64_t flips = 0;
};

// Batches of `batch` subject rows, then `batch` class rows. `data` is shared between trials.
std::unique_ptr<BatchSource> MakeDreamBoothSource(std::shared_ptr<const DreamBoothData> data, int64_t batch,
                                                  const DreamBoothSeeds& seeds);

}  // namespace loupe::worker
