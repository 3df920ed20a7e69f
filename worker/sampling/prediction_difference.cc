#include "worker/sampling/prediction_difference.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <algorithm>

#include "fmt/format.h"
#include "worker/runtime/finite.h"
#include "worker/sampling/picture_sampler.h"

namespace loupe::worker::sampling {
namespace {

// [h, w] of values in 0 … 1 as a picture: white, red, black.
io::Image HeatMap(const torch::Tensor& values, int width, int height) {
  const auto v =
      torch::upsample_nearest2d(values.clamp(0, 1).view({1, 1, values.size(0), values.size(1)}), {height, width})
          .view({height, width});
  const auto red = (2 - 2 * v).clamp(0, 1), others = (1 - 2 * v).clamp(0, 1);
  const auto bytes = (torch::stack({red, others, others}, -1) * 255).round().to(torch::kUInt8).contiguous();
  const uint8_t* data = bytes.const_data_ptr<uint8_t>();
  return {width, height, std::vector<uint8_t>(data, data + bytes.numel())};
}

// [3, m, h, w]
torch::Tensor Magnitude(const torch::Tensor& difference) { return difference.abs().mean(2); }

}  // namespace

std::vector<int64_t> DifferenceTimesteps(const base::BaseModel& base) {
  const int64_t steps = base.schedule.config().num_train_timesteps;
  return {steps / 4, steps / 2, 3 * steps / 4};
}

torch::Tensor PredictionDifference(base::BaseModel& base, const torch::Tensor& latents, uint64_t seed,
                                   const std::string& prompt, const std::string& other) {
  torch::NoGradGuard no_grad;
  const int64_t n = std::min(kDifferencePictures, latents.size(0));
  const auto timesteps =
      torch::tensor(DifferenceTimesteps(base), torch::kInt64).repeat_interleave(n).to(latents.device());
  const auto x0 = latents.narrow(0, 0, n).repeat({3, 1, 1, 1});
  const auto noise =
      torch::randn(x0.sizes(), at::detail::createCPUGenerator(seed), torch::kFloat32).to(latents.device());
  const auto noisy = base.schedule.AddNoise(x0, noise, timesteps);
  const auto predicted = [&](const std::string& caption) {
    const auto output = base.denoiser->Forward(noisy, timesteps, base::RowsOf(base.EncodeText({caption}), 3 * n));
    runtime::CheckFinite(output,
                         fmt::format("{}: what the {} predicts for '{}'", base.folder, base.denoiser->name(), caption));
    return base.schedule.EpsFromOutput(noisy, base.denoiser->NoisePart(output), timesteps);
  };
  return (predicted(prompt) - predicted(other)).cpu().view({3, n, x0.size(1), x0.size(2), x0.size(3)});
}

double DifferenceScale(const torch::Tensor& difference) {
  return torch::quantile(Magnitude(difference).flatten(), 0.99).item<double>();
}

io::Image DifferenceSheet(const std::vector<io::Image>& pictures, const std::vector<torch::Tensor>& differences,
                          double full_scale) {
  std::vector<io::Image> cells;
  for (size_t i = 0; i < differences.size(); ++i) cells.insert(cells.end(), pictures.begin(), pictures.end());
  for (int64_t t = 0; t < differences.front().size(0); ++t) {
    for (const torch::Tensor& difference : differences) {
      const auto shown = Magnitude(difference)[t] / std::max(full_scale, 1e-12);
      for (size_t m = 0; m < pictures.size(); ++m) {
        cells.push_back(HeatMap(shown[static_cast<int64_t>(m)], pictures[m].width, pictures[m].height));
      }
    }
  }
  return MakeGrid(cells, static_cast<int>(pictures.size() * differences.size()));
}

}  // namespace loupe::worker::sampling
