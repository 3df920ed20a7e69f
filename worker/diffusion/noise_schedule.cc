#include "worker/diffusion/noise_schedule.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace loupe::worker::diffusion {
namespace {

// β_t = 1 − f(t + 1)/f(t), at most 0.999, f(t) = cos²((t/T + 0.008)/1.008 · π/2) (Nichol & Dhariwal 2021, arXiv
// 2102.09672 eq. 17).
torch::Tensor SquaredCosineBetas(int64_t timesteps) {
  const auto alpha_bar = [&](int64_t t) {
    const double angle =
        (static_cast<double>(t) / static_cast<double>(timesteps) + 0.008) / 1.008 * std::numbers::pi / 2;
    return std::cos(angle) * std::cos(angle);
  };
  std::vector<double> betas;
  for (int64_t t = 0; t < timesteps; ++t) betas.push_back(std::min(1 - alpha_bar(t + 1) / alpha_bar(t), 0.999));
  return torch::tensor(betas, torch::kFloat64).to(torch::kFloat32);
}

torch::Tensor PlainBetas(const NoiseScheduleConfig& config) {
  const auto float32 = torch::dtype(torch::kFloat32);
  const int64_t timesteps = config.num_train_timesteps;
  if (!config.trained_betas.empty()) return torch::tensor(config.trained_betas, torch::kFloat64).to(torch::kFloat32);
  switch (config.beta_schedule) {
    case BetaSchedule::kLinear:
      return torch::linspace(config.beta_start, config.beta_end, timesteps, float32);
    case BetaSchedule::kScaledLinear:
      return torch::linspace(std::sqrt(config.beta_start), std::sqrt(config.beta_end), timesteps, float32).square();
    case BetaSchedule::kSquaredCosine:
      return SquaredCosineBetas(timesteps);
  }
  TORCH_CHECK(false, "beta schedule ", static_cast<int>(config.beta_schedule), " is none");
}

// √ᾱ moved and stretched so that the last one is 0 and the first one stays (Lin et al. 2023, arXiv 2305.08891,
// algorithm 1).
torch::Tensor RescaledToZeroSnr(const torch::Tensor& betas) {
  auto root = torch::cumprod(1.0 - betas, 0).sqrt();
  const auto first = root[0].clone(), last = root[-1].clone();
  root = (root - last) * (first / (first - last));
  const auto alpha_bar = root.square();
  return 1.0 - torch::cat({alpha_bar.slice(0, 0, 1), alpha_bar.slice(0, 1) / alpha_bar.slice(0, 0, -1)});
}

torch::Tensor Betas(const NoiseScheduleConfig& config) {
  const auto betas = PlainBetas(config);
  return config.rescale_betas_zero_snr ? RescaledToZeroSnr(betas) : betas;
}

}  // namespace

NoiseSchedule::NoiseSchedule(const NoiseScheduleConfig& config)
    : config_(config), betas_(Betas(config)), alphas_cumprod_(torch::cumprod(1.0 - betas_, 0)) {}

double NoiseSchedule::AlphaBar(int64_t t) const {
  TORCH_CHECK(t >= 0 && t < config_.num_train_timesteps, "timestep ", t, " is not in 0 … ",
              config_.num_train_timesteps - 1);
  return static_cast<double>(alphas_cumprod().const_data_ptr<float>()[t]);
}

NoiseSchedule::Scales NoiseSchedule::ScalesAt(const torch::Tensor& timesteps, const torch::Tensor& like) const {
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape[0] = -1;
  const auto alpha = alphas_cumprod_.On(like.device()).index_select(0, timesteps.to(like.device())).view(shape);
  return {alpha.sqrt().to(like.scalar_type()), (1.0 - alpha).sqrt().to(like.scalar_type())};
}

torch::Tensor NoiseSchedule::AddNoise(const torch::Tensor& x0, const torch::Tensor& noise,
                                      const torch::Tensor& timesteps) const {
  const Scales scales = ScalesAt(timesteps, x0);
  return scales.signal * x0 + scales.noise * noise;
}

torch::Tensor NoiseSchedule::Target(const torch::Tensor& x0, const torch::Tensor& noise,
                                    const torch::Tensor& timesteps) const {
  if (config_.prediction_type == PredictionType::kEpsilon) return noise;
  const Scales scales = ScalesAt(timesteps, x0);
  return scales.signal * noise - scales.noise * x0;
}

torch::Tensor NoiseSchedule::X0FromOutput(const torch::Tensor& xt, const torch::Tensor& output,
                                          const torch::Tensor& timesteps) const {
  const Scales scales = ScalesAt(timesteps, xt);
  if (config_.prediction_type == PredictionType::kEpsilon) return (xt - scales.noise * output) / scales.signal;
  return scales.signal * xt - scales.noise * output;
}

torch::Tensor NoiseSchedule::EpsFromOutput(const torch::Tensor& xt, const torch::Tensor& output,
                                           const torch::Tensor& timesteps) const {
  if (config_.prediction_type == PredictionType::kEpsilon) return output;
  const Scales scales = ScalesAt(timesteps, xt);
  return scales.signal * output + scales.noise * xt;
}

torch::Tensor NoiseSchedule::SignalToNoise(const torch::Tensor& timesteps) const {
  const auto alpha = alphas_cumprod_.On(timesteps.device()).index_select(0, timesteps);
  return alpha / (1.0 - alpha);
}

}  // namespace loupe::worker::diffusion
