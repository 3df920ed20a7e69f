// How differently a model predicts the noise for two prompts: the paper's look at which adapters hear the identifier
// (arXiv 2303.18181 §5.3), on noised pictures of the class.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "worker/base/base_model.h"
#include "worker/io/image.h"

namespace loupe::worker::sampling {

// A quarter, a half and three quarters of the schedule.
std::vector<int64_t> DifferenceTimesteps(const base::BaseModel& base);

// How many of the latents are looked at: the first four.
inline constexpr int64_t kDifferencePictures = 4;

// Between two prompts, on these latents (latents_scaled [n, C, h, w]) with noise from the seed.
struct DifferenceOrder {
  torch::Tensor latents;
  uint64_t seed = 0;
  std::string prompt, other;
};

// The predicted noise for `prompt` minus that for `other`, [3, m, C, h, w], CPU: for the first m latents, each noised
// to each of DifferenceTimesteps. Attached methods take part. Without gradients. Throws NotFinite when a prediction is
// none.
torch::Tensor PredictionDifference(base::BaseModel& base, const DifferenceOrder& order);
// The same by slot of the attached method, in passes of all of them; m is the same for all.
std::vector<torch::Tensor> PredictionDifferences(base::BaseModel& base, const std::vector<DifferenceOrder>& slots);

// The paper's picture: `pictures` (m of one size) in the first row, and under each of them one row per timestep with
// the mean over channels of |difference| as a heat map from white (0) over red to black (`full_scale` and more).
// Several differences, of the same pictures, stand side by side, each under its own copy of the pictures. Not empty.
io::Image DifferenceSheet(const std::vector<io::Image>& pictures, const std::vector<torch::Tensor>& differences,
                          double full_scale);

// The 99th percentile of the mean over channels of |difference|: a full scale that single pixels do not set.
double DifferenceScale(const torch::Tensor& difference);

}  // namespace loupe::worker::sampling
