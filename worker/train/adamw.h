// AdamW with torch.optim.AdamW's arithmetic, in one fused call for all parameters of a slot, and with a state that can
// be saved.
//
//   p ← p (1 − lr·wd);  m ← β1 m + (1−β1) g;  v ← β2 v + (1−β2) g²;
//   p ← p − lr/(1−β1ᵗ) · m / (√v/√(1−β2ᵗ) + ε)              (Loshchilov & Hutter 2019, arXiv 1711.05101)
//
// One per slot: each has its own rates, steps and clipping, and its arithmetic is the same whether the slot is alone or
// in a pack.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "worker/train/slot_parameters.h"

namespace loupe::worker {

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  // A gradient whose 2-norm over all parameters is larger is scaled down to it; 0: never.
  double clip_norm = 0;
};

// Changes the parameters' values in place. Not thread-safe.
class AdamW {
 public:
  AdamW(std::vector<SlotParameter> parameters, const AdamWOptions& options);

  // One step with the gradients that the parameters hold (those without one count as 0); their holder clears them.
  // `rate_factor` multiplies the learning rate (schedules). Returns the gradient's norm before clipping, [1], on the
  // parameters' device.
  torch::Tensor Step(double rate_factor = 1);

  int64_t steps() const { return steps_; }

  // The same parameters in another pack: moments and steps stay.
  void Rebind(std::vector<SlotParameter> parameters);

  // Moments by parameter ("{name}.exp_avg", "{name}.exp_avg_sq"), and back. On the CPU they are the optimiser's own
  // memory: a network's moments are not held twice. Import throws c10::Error naming an array
  // that is missing or of another shape.
  std::map<std::string, torch::Tensor> Export() const;
  void Import(const std::map<std::string, torch::Tensor>& arrays, int64_t steps);

 private:
  torch::Tensor Clip(std::vector<torch::Tensor>& gradients) const;

  const AdamWOptions options_;
  std::vector<SlotParameter> parameters_;
  // Beside parameters_, with a leading dimension of 1 as the gradients have.
  std::vector<torch::Tensor> exp_avg_, exp_avg_sq_;
  int64_t steps_ = 0;
};

}  // namespace loupe::worker
