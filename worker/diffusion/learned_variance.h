// A variance that the network predicts beside the noise, and the bound on the likelihood that trains it (Nichol &
// Dhariwal 2021, arXiv 2102.09672 §3.1). Samplers here are deterministic and have no use for the variance.
//
//   p(x_{t−1} | x_t) = N(μ, Σ),   log Σ = v log β_t + (1 − v) log β̃_t,   v = (output + 1)/2
//   L_t = KL( q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t) ),   L_0 = −log p(x_0 | x_1)
//   L_vlb = Σ_t L_t ≈ T · L_t for a t drawn evenly
//
// β̃_t is the variance of q(x_{t−1} | x_t, x_0); at t = 0 it is 0 and that of t = 1 stands in, as in the paper's code.
#pragma once

#include <torch/types.h>

#include "worker/diffusion/noise_schedule.h"

namespace loupe::worker::diffusion {

// Immutable and thread-safe.
class LearnedVariance {
 public:
  explicit LearnedVariance(const NoiseSchedule& schedule);

  // log Σ from the network's second half: [N, …], float64, on `output`'s device. timesteps: [N], int64.
  torch::Tensor LogVariance(const torch::Tensor& output, const torch::Tensor& timesteps) const;

  // L_t of each row in bits, averaged over the row's numbers: [N], float64 (differences of nearly equal numbers). x0,
  // xt and both predictions are [N, …]. Gradients flow into `output` alone: `x0_predicted`, which is the mean's only
  // unknown, counts as given. L_0 is that of numbers in −1 … 1 in 256 steps (Ho et al. 2020, arXiv 2006.11239 eq. 13),
  // whose outermost steps reach to infinity; for latents this grid is a convention.
  torch::Tensor BoundTerms(const torch::Tensor& x0, const torch::Tensor& xt, const torch::Tensor& x0_predicted,
                           const torch::Tensor& output, const torch::Tensor& timesteps) const;

 private:
  // All [T], float64.
  runtime::DeviceTable log_betas_, log_posterior_;
  // μ = x0_factor · x_0 + xt_factor · x_t (DDPM's eq. 7).
  runtime::DeviceTable x0_factor_, xt_factor_;
};

}  // namespace loupe::worker::diffusion
