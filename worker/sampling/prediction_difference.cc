#include "worker/sampling/prediction_difference.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <algorithm>

#include "fmt/format.h"
#include "worker/base/slot_pass.h"
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

torch::Tensor PredictionDifference(base::BaseModel& base, const DifferenceOrder& order) {
  return PredictionDifferences(base, {order}).front();
}

std::vector<torch::Tensor> PredictionDifferences(base::BaseModel& base, const std::vector<DifferenceOrder>& slots) {
  torch::NoGradGuard no_grad;
  const auto device = slots.front().latents.device();
  const int64_t n = std::min(kDifferencePictures, slots.front().latents.size(0));
  const auto its_timesteps = torch::tensor(DifferenceTimesteps(base), torch::kInt64).repeat_interleave(n).to(device);
  base::SlotRows rows;
  std::vector<std::string> prompts, others;
  for (const DifferenceOrder& order : slots) {
    const auto x0 = order.latents.narrow(0, 0, n).repeat({3, 1, 1, 1});
    const auto noise = torch::randn(x0.sizes(), at::detail::createCPUGenerator(order.seed), torch::kFloat32).to(device);
    rows.noisy.push_back(base.schedule.AddNoise(x0, noise, its_timesteps));
    rows.timesteps.push_back(its_timesteps);
    prompts.push_back(order.prompt);
    others.push_back(order.other);
  }
  const torch::Tensor noisy = torch::cat(rows.noisy), timesteps = torch::cat(rows.timesteps);
  const auto predicted = [&](const std::vector<std::string>& captions) {
    rows.conditions.clear();
    for (const base::Condition& one : base.EncodeText(captions).split(1)) {
      rows.conditions.push_back(base::RowsOf(one, 3 * n));
    }
    const auto output = base::ForwardOfSlots(base, rows);
    runtime::CheckFinite(
        output, fmt::format("{}: what the {} predicts for '{}'", base.folder, base.denoiser->name(), captions.front()));
    return base.schedule.EpsFromOutput(noisy, base.denoiser->NoisePart(output), timesteps);
  };
  std::vector<int64_t> shape = slots.front().latents.sizes().vec();
  shape[0] = n;
  shape.insert(shape.begin(), {static_cast<int64_t>(slots.size()), 3});
  return (predicted(prompts) - predicted(others)).cpu().view(shape).unbind(0);
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
