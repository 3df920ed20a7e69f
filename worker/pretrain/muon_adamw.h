// The optimiser of the base's training: Muon for matrices and convolutions, AdamW for everything else.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace loupe::worker {

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
// 5,000 kernels a step, which a GPU takes longer to start than to run. Not thread-safe. Deterministic.
class MuonAdamW {
 public:
  // The parameters are shared with the network and must outlive neither.
  MuonAdamW(const torch::nn::Module& network, const MuonAdamWOptions& options);

  void ZeroGrad();
  // The step after `step` earlier ones, with both rates times `factor`. Parameters without a gradient stay.
  void Step(int64_t step, double factor);

  // Momenta by "<kind>.<parameter>", for a checkpoint; the tensors are the optimiser's own.
  std::map<std::string, torch::Tensor> State() const;

  static bool TakesMuon(const std::string& name, const torch::Tensor& parameter);

 private:
  struct Slot {
    std::string name;
    torch::Tensor parameter;
    bool muon;
    torch::Tensor first, second;  // Muon: momentum and nothing
  };
  // Slots that take the step together, as lists: matrices of one shape, or all of AdamW's with (without) weight decay.
  struct Group {
    std::vector<torch::Tensor> parameters, gradients, first, second;
  };
  void MuonStep(Group& group, double factor) const;
  void AdamStep(Group& group, int64_t step, double factor, double decay) const;

  MuonAdamWOptions options_;
  std::vector<Slot> slots_;
};

}  // namespace loupe::worker
