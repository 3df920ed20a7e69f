// The forward process of a diffusion model in discrete time (DDPM, arXiv 2006.11239): how much noise each timestep
// means.
//
//   x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε,   ᾱ_t = Π_{s ≤ t} (1 − β_s),   t = 0 … T − 1
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/runtime/device_table.h"

namespace loupe::worker::diffusion {

enum class BetaSchedule { kLinear, kScaledLinear, kSquaredCosine };  // β, or √β, rises evenly; or √ᾱ falls as a cosine
enum class PredictionType { kEpsilon, kVPrediction };  // what the network's output means: ε, or v = √ᾱ ε − √(1−ᾱ) x_0
enum class TimestepSpacing {
  kLinspace,
  kLeading,
  kTrailing
};  // how samplers pick their timesteps; see Timesteps of each

struct NoiseScheduleConfig {
  int64_t num_train_timesteps = 1000;
  double beta_start = 0.00085;
  double beta_end = 0.012;
  BetaSchedule beta_schedule = BetaSchedule::kScaledLinear;
  std::vector<double> trained_betas;  // if not empty: num_train_timesteps βs, instead of the three above
  PredictionType prediction_type = PredictionType::kEpsilon;
  // √ᾱ is stretched so that the last timestep is noise alone, ᾱ = 0 (arXiv 2305.08891). With kVPrediction only.
  bool rescale_betas_zero_snr = false;

  // The rest is for samplers only. Unset: each sampler's own default.
  std::optional<TimestepSpacing> timestep_spacing;
  int64_t steps_offset = 0;
  bool set_alpha_to_one = true;  // DDIM: the last step ends at ᾱ = 1 rather than at ᾱ_0

  // From scheduler/scheduler_config.json of any diffusers scheduler of noise in discrete time (Stable Diffusion v1
  // names PNDM there), as that library's DDIMScheduler and DPMSolverMultistepScheduler would be made from it
  // (from_config), but without clipping, as its Stable Diffusion pipeline has it. INVALID_ARGUMENT names file, key and
  // what is supported for whatever would give another noise or another picture, and for keys that are not known.
  static absl::StatusOr<NoiseScheduleConfig> Read(const std::string& path);
};

// Immutable and thread-safe.
class NoiseSchedule {
 public:
  explicit NoiseSchedule(const NoiseScheduleConfig& config);

  const NoiseScheduleConfig& config() const { return config_; }
  // β: [T], float32, CPU.
  const torch::Tensor& betas() const { return betas_; }
  // ᾱ: [T], float32, CPU; computed in float32, in diffusers' order of operations.
  const torch::Tensor& alphas_cumprod() const { return alphas_cumprod_.values(); }
  // ᾱ_t as a number; 0 ≤ t < T. 0 at the last t of a schedule with rescale_betas_zero_snr.
  double AlphaBar(int64_t t) const;

  // In all of these x and its like are [N, …], timesteps is [N] int64, each entry for one row; results are in x's dtype
  // and on its device.

  // x_t from x_0 and noise ε ~ N(0, 1).
  torch::Tensor AddNoise(const torch::Tensor& x0, const torch::Tensor& noise, const torch::Tensor& timesteps) const;
  // What the network is trained to say: ε or v.
  torch::Tensor Target(const torch::Tensor& x0, const torch::Tensor& noise, const torch::Tensor& timesteps) const;
  // x_0 and ε as the network's output has them.
  torch::Tensor X0FromOutput(const torch::Tensor& xt, const torch::Tensor& output,
                             const torch::Tensor& timesteps) const;
  torch::Tensor EpsFromOutput(const torch::Tensor& xt, const torch::Tensor& output,
                              const torch::Tensor& timesteps) const;
  // ᾱ_t / (1 − ᾱ_t): [N], float32, on the timesteps' device.
  torch::Tensor SignalToNoise(const torch::Tensor& timesteps) const;

 private:
  struct Scales {
    torch::Tensor signal;  // √ᾱ_t, shaped to multiply x
    torch::Tensor noise;   // √(1 − ᾱ_t)
  };
  Scales ScalesAt(const torch::Tensor& timesteps, const torch::Tensor& like) const;

  NoiseScheduleConfig config_;
  torch::Tensor betas_;
  runtime::DeviceTable alphas_cumprod_;
};

}  // namespace loupe::worker::diffusion
