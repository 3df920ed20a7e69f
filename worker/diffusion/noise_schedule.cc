#include "worker/diffusion/noise_schedule.h"

#include <cmath>
#include <vector>

#include "common/status_macros.h"
#include "worker/io/json_config.h"

namespace loupe::worker {
namespace {

torch::Tensor Betas(const NoiseScheduleConfig& config) {
  const auto float32 = torch::dtype(torch::kFloat32);
  if (config.beta_schedule == BetaSchedule::kLinear) {
    return torch::linspace(config.beta_start, config.beta_end, config.num_train_timesteps, float32);
  }
  return torch::linspace(std::sqrt(config.beta_start), std::sqrt(config.beta_end), config.num_train_timesteps, float32)
      .square();
}

}  // namespace

absl::StatusOr<NoiseScheduleConfig> NoiseScheduleConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(JsonConfig json, JsonConfig::Read(path));
  json.MustBe("trained_betas", {nullptr});
  json.MustBe("rescale_betas_zero_snr", {false});
  json.MustBe("use_karras_sigmas", {false});
  json.MustBe("thresholding", {false});
  json.MustBe("clip_sample", {false});
  NoiseScheduleConfig config;
  config.num_train_timesteps = json.Int("num_train_timesteps", 1000);
  config.beta_start = json.Number("beta_start");
  config.beta_end = json.Number("beta_end");
  const std::string betas = json.String("beta_schedule");
  if (betas != "linear" && betas != "scaled_linear") json.Refuse("beta_schedule", "linear or scaled_linear");
  config.beta_schedule = betas == "linear" ? BetaSchedule::kLinear : BetaSchedule::kScaledLinear;
  const std::string prediction = json.String("prediction_type", "epsilon");
  if (prediction != "epsilon" && prediction != "v_prediction") {
    json.Refuse("prediction_type", "epsilon or v_prediction");
  }
  config.prediction_type = prediction == "epsilon" ? PredictionType::kEpsilon : PredictionType::kVPrediction;
  const std::string spacing = json.String("timestep_spacing", "");
  if (spacing == "linspace") {
    config.timestep_spacing = TimestepSpacing::kLinspace;
  } else if (spacing == "leading") {
    config.timestep_spacing = TimestepSpacing::kLeading;
  } else if (!spacing.empty()) {
    json.Refuse("timestep_spacing", "linspace or leading");
  }
  config.steps_offset = json.Int("steps_offset", 0);
  config.set_alpha_to_one = json.Bool("set_alpha_to_one", true);
  if (config.num_train_timesteps < 2) json.Refuse("num_train_timesteps", "at least 2");
  if (!(config.beta_start > 0 && config.beta_start < 1)) json.Refuse("beta_start", "a number between 0 and 1");
  if (!(config.beta_end >= config.beta_start && config.beta_end < 1)) json.Refuse("beta_end", "beta_start to 1");
  if (config.steps_offset < 0 || config.steps_offset > 1) json.Refuse("steps_offset", "0 or 1");
  LOUPE_RETURN_IF_ERROR(json.status());
  return config;
}

NoiseSchedule::NoiseSchedule(const NoiseScheduleConfig& config)
    : config_(config), betas_(Betas(config)), alphas_cumprod_(torch::cumprod(1.0 - betas_, 0)) {}

double NoiseSchedule::AlphaBar(int64_t t) const {
  TORCH_CHECK(t >= 0 && t < config_.num_train_timesteps, "timestep ", t, " is not in 0 … ",
              config_.num_train_timesteps - 1);
  return static_cast<double>(alphas_cumprod_.const_data_ptr<float>()[t]);
}

NoiseSchedule::Scales NoiseSchedule::ScalesAt(const torch::Tensor& timesteps, const torch::Tensor& like) const {
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape[0] = -1;
  const auto alpha = alphas_cumprod_.to(like.device()).index_select(0, timesteps.to(like.device())).view(shape);
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
  const auto alpha = alphas_cumprod_.to(timesteps.device()).index_select(0, timesteps);
  return alpha / (1.0 - alpha);
}

}  // namespace loupe::worker
