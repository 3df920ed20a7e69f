// How differently a model predicts the noise for two prompts: the paper's look at which adapters hear the identifier (arXiv
// 2303.18181 §5.3), on noised pictures of the class.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

#include "worker/models/base_model.h"

namespace loupe::worker {

// The predicted noise for `prompt` minus that for `other`, [m, C, h, w], CPU: for the first (at most four) latents, each noised
// to a quarter, a half and three quarters of the schedule's timesteps. Latents: latents_scaled [n, C, h, w]. The noise is drawn
// from `seed`. Attached methods take part. Without gradients.
torch::Tensor PredictionDifference(BaseModel& base, const torch::Tensor& latents, uint64_t seed, const std::string& prompt,
                                   const std::string& other);

}  // namespace loupe::worker
