// AdamW with torch.optim.AdamW's arithmetic, in one fused call for all parameters, and with a state that can be saved.
//
//   p ← p (1 − lr·wd);  m ← β1 m + (1−β1) g;  v ← β2 v + (1−β2) g²;
//   p ← p − lr/(1−β1ᵗ) · m / (√v/√(1−β2ᵗ) + ε)              (Loshchilov & Hutter 2019, arXiv 1711.05101)
//
// Element by element, so a pack's slots do not meet; clipping is per slot.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "worker/methods/method.h"

namespace loupe::worker {

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  // A slot whose gradient's 2-norm is larger is scaled down to it; 0: never.
  double clip_norm = 0;
};

// The parameters' values are changed in place; they must outlive it. Not thread-safe.
class AdamW {
 public:
  AdamW(const std::vector<NamedParameter>& parameters, const AdamWOptions& options);

  // One step with the gradients that the parameters hold (those without one count as 0), which are then cleared.
  // `rate_factor` multiplies the learning rate (schedules). Returns each slot's gradient norm before clipping, [K].
  torch::Tensor Step(double rate_factor = 1);

  int64_t steps() const { return steps_; }

  // Moments by parameter ("{name}.exp_avg", "{name}.exp_avg_sq"), and back. Import throws c10::Error naming an array
  // that is missing or of another shape.
  std::map<std::string, torch::Tensor> Export() const;
  void Import(const std::map<std::string, torch::Tensor>& arrays, int64_t steps);

 private:
  torch::Tensor ClipPerSlot(std::vector<torch::Tensor>& gradients) const;

  const AdamWOptions options_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> values_, exp_avg_, exp_avg_sq_, step_counts_;
  int64_t steps_ = 0;
};

}  // namespace loupe::worker
