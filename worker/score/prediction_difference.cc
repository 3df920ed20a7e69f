#include "worker/score/prediction_difference.h"

#include <algorithm>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

namespace loupe::worker {

torch::Tensor PredictionDifference(BaseModel& base, const torch::Tensor& latents, uint64_t seed, const std::string& prompt,
                                   const std::string& other) {
  torch::NoGradGuard no_grad;
  constexpr int64_t kPictures = 4;
  const int64_t n = std::min(kPictures, latents.size(0)), steps = base.schedule.config().num_train_timesteps;
  const auto timesteps =
      torch::tensor({steps / 4, steps / 2, 3 * steps / 4}, torch::kInt64).repeat_interleave(n).to(latents.device());
  const auto x0 = latents.narrow(0, 0, n).repeat({3, 1, 1, 1});
  const auto noise = torch::randn(x0.sizes(), at::detail::createCPUGenerator(seed), torch::kFloat32).to(latents.device());
  const auto noisy = base.schedule.AddNoise(x0, noise, timesteps);
  const auto predicted = [&](const std::string& caption) {
    const auto output = base.unet(noisy, timesteps, base.EncodeText({caption}).expand({3 * n, -1, -1}));
    return base.schedule.EpsFromOutput(noisy, output, timesteps);
  };
  return (predicted(prompt) - predicted(other)).cpu();
}

}  // namespace loupe::worker
