// From noise to latents: the deterministic samplers DDIM and DPM-Solver++(2M), step by step, and the loop around them.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/diffusion/noise_schedule.h"

namespace loupe::worker::sampling {

enum class SamplerKind { kDdim, kDpmSolverPlusPlus2M };

// One run's walk through its timesteps. Holds what earlier steps said, so one object serves one run, in order; not
// thread-safe.
class Sampler {
 public:
  virtual ~Sampler() = default;

  // In the order of the steps: falling.
  const std::vector<int64_t>& timesteps() const { return timesteps_; }

  // From x_t at the next unused timestep to the one after. `output`: the network's (guided) output for it, of the same
  // shape. Throws after the last timestep.
  torch::Tensor Step(const torch::Tensor& output, const torch::Tensor& xt);

 protected:
  Sampler(const diffusion::NoiseSchedule& schedule, std::vector<int64_t> timesteps)
      : schedule_(schedule), timesteps_(std::move(timesteps)) {}

  virtual torch::Tensor StepAt(size_t index, const torch::Tensor& output, const torch::Tensor& xt) = 0;

  const diffusion::NoiseSchedule& schedule() const { return schedule_; }

 private:
  diffusion::NoiseSchedule schedule_;
  std::vector<int64_t> timesteps_;
  size_t next_ = 0;
};

// `steps` from 1 to the schedule's num_train_timesteps (less one for DPM-Solver++). The timesteps are those of
// diffusers' schedulers of the same name for the schedule's timestep_spacing (default: leading for DDIM, linspace for
// DPM-Solver++) and steps_offset.
//   DDIM (arXiv 2010.02502, equation 12, η = 0): x_s = √ᾱ_s x̂_0 + √(1−ᾱ_s) ε̂, s = t − ⌊T/steps⌋, without clipping.
//   DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2), midpoint form, with the last step first-order to σ = 0.
std::unique_ptr<Sampler> MakeSampler(SamplerKind kind, const diffusion::NoiseSchedule& schedule, int64_t steps);

// The (guided) network output for latents_scaled [N, C, h, w] at one timestep.
using NoisePredictor = std::function<torch::Tensor(const torch::Tensor& latents, int64_t timestep)>;

// Runs all steps from `latents` (for these samplers, N(0, 1) noise; drawn by the caller). Without gradients.
torch::Tensor RunSampler(Sampler& sampler, torch::Tensor latents, const NoisePredictor& predict);

// Classifier-free guidance (arXiv 2207.12598): uncond + scale·(cond − uncond). `predict_pair` gets the latents twice,
// [2N, C, h, w], first for the empty condition, then for the prompt, and answers in that order. With scale 1 the empty
// condition cancels: use a plain predictor instead. `channels`: of the first so many; the others go on as predicted for
// the prompt (0: all are guided).
NoisePredictor WithGuidance(NoisePredictor predict_pair, double scale, int64_t channels = 0);

}  // namespace loupe::worker::sampling
