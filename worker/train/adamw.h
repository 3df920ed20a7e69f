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
#include <vector>

#include "worker/train/optimizer.h"

namespace loupe::worker::train {

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  // A gradient whose 2-norm over all parameters is larger is scaled down to it; 0: never.
  double clip_norm = 0;
};

// Parameters without a gradient count as having one of 0: they decay.
class AdamW : public Optimizer {
 public:
  AdamW(std::vector<SlotParameter> parameters, const AdamWOptions& options);

  void Prepare(double rate_factor) override;
  torch::Tensor Apply(const torch::Tensor& skip) override;

  std::vector<torch::Tensor> Moments() const override;
  TensorMap Export() const override;
  void Import(const TensorMap& arrays, int64_t steps) override;

 private:
  torch::Tensor Clip(std::vector<torch::Tensor>& gradients) const;

  const AdamWOptions options_;
  // Beside parameters_, with a leading dimension of 1 as the gradients have.
  std::vector<torch::Tensor> exp_avg_, exp_avg_sq_;
  // Of the step that is prepared: its number, float32, and rate, float64 on the CPU and float32 elsewhere, as the fused
  // operator wants it.
  torch::Tensor count_, rate_;
};

}  // namespace loupe::worker::train
