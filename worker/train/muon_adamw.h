// The optimiser of whole networks: Muon for matrices and convolutions, AdamW for everything else.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "worker/train/optimizer.h"

namespace loupe::worker::train {

struct MuonAdamWOptions {
  double muon_rate = 0.02;
  double muon_momentum = 0.95;  // Nesterov
  torch::ScalarType muon_precision =
      torch::kFloat32;  // of the iteration's products; kBFloat16 does for it, as its authors say
  double adam_rate = 1e-3;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.98;
  double weight_decay = 0.05;  // of both, times the rate (Muon: a tenth of Muon's rate, which is far larger)
};

// G ≈ U Vᵀ of G = U S Vᵀ, by five steps of the quintic Newton–Schulz iteration (Jordan et al. 2024, "Muon"): singular
// values come out between about 0.7 and 1.2. g: [r, c], or [n, r, c] for n matrices; the result has g's shape and type.
torch::Tensor Orthogonalised(const torch::Tensor& g, torch::ScalarType precision = torch::kFloat32);

// A parameter p with two or more dimensions, named neither embedding nor conv_in, conv_out or logit_scale, takes
//   b ← μ b + g;  p ← (1 − rate·decay/10) p − rate·√max(1, rows/columns)·Orthogonalised(g + μ b)   (a kernel as [out,
//   in·k·k]);
// every other one takes AdamW's step (arXiv 1711.05101). Matrices of one shape are orthogonalised together, and what is
// done number by number is done for a whole list of tensors at a time: a network of 200 small tensors would else be
// 5,000 kernels a step, which a GPU takes longer to start than to run. Parameters without a gradient stay as they are.
class MuonAdamW : public Optimizer {
 public:
  MuonAdamW(std::vector<SlotParameter> parameters, const MuonAdamWOptions& options);

  // Both rates times the factor. No norm is computed: nothing is clipped.
  void Prepare(double rate_factor) override { rate_factor_ = rate_factor; }
  // Skips nothing, and is not to be recorded: rates are numbers of the call.
  torch::Tensor Apply(const torch::Tensor& skip) override;

  std::vector<torch::Tensor> Moments() const override;
  // "{name}.momentum" of those that take Muon; "{name}.exp_avg" and "{name}.exp_avg_sq" of the others.
  TensorMap Export() const override;
  void Import(const TensorMap& arrays, int64_t steps) override;

  static bool TakesMuon(const std::string& name, const torch::Tensor& parameter);

 private:
  // Beside parameters_, each of its parameter's shape and layout.
  struct ParameterMoments {
    torch::Tensor first, second;  // Muon: the momentum and nothing
    bool muon() const { return !second.defined(); }
  };
  // What takes the step together, as lists: matrices of one shape, or all of AdamW's with (without) weight decay.
  struct Group {
    std::vector<torch::Tensor> parameters, gradients, first, second;
  };
  void MuonStep(Group& group, double factor) const;
  void AdamStep(Group& group, double factor, double decay) const;

  MuonAdamWOptions options_;
  std::vector<ParameterMoments> moments_;
  double rate_factor_ = 1;
};

}  // namespace loupe::worker::train
