// S4D: a linear state space per channel with a diagonal matrix, computed as one long convolution (Gu et al. 2022, "On
// the Parameterization and Initialization of Diagonal State Space Models", arXiv 2206.11893).
//
//   continuous   s'(t) = A s(t) + B u(t),  y(t) = 2 Re(C s(t)) + D u(t),   A = diag(a_n), B = 1, n < N/2: the other
//                half of the N states are the complex conjugates of these, hence the 2 Re
//   discrete     s_l = Ā s_{l−1} + B̄ u_l,  y_l = 2 Re(C s_l) + D u_l,     s_{−1} = 0, step Δ
//     zero-order hold   Ā = exp(ΔA),               B̄ = (exp(ΔA) − 1)/A       (its equation 5; Appendix A)
//     bilinear          Ā = (1 + ΔA/2)/(1 − ΔA/2),  B̄ = Δ/(1 − ΔA/2)          (the same)
//   convolution  y = K ∗ u,  K_l = 2 Re Σ_n C_n Ā_n^l B̄_n  (equation 3), and D on K_0: long_convolution.h
//
// a_n = −exp(log ρ_n) + i ω_n, so that the real part stays negative whatever is trained, Δ = exp(log Δ). Initial values
// are S4D-Lin's: ρ = ½, ω_n = πn, C complex normal, D normal, Δ log-uniform in [0.001, 0.1] (§4.2 and the authors'
// code, state-spaces/s4).
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <mutex>

#include "worker/nn/leaf_layers.h"

namespace loupe::worker::nn {

enum class Discretisation { kZeroOrderHold, kBilinear };

// Along the sequence, or against it: then place L − 1 comes first.
enum class Direction { kForward, kBackward };

// One direction. A leaf of one array, so that methods hook it as they do other layers: weight [H, 2 + 4·N/2] float32,
// a channel's row being log Δ, D, then N/2 each of log ρ, ω, Re C, Im C.
class S4DImpl : public torch::nn::Module, public LeafLayer {
 public:
  // `states`: N, even.
  S4DImpl(int64_t channels, int64_t states, Discretisation discretisation, Direction direction = Direction::kForward);

  // x: [N, L, H] → the same shape and dtype. Computed in float32 (float64 for a float64 input) under any autocast: the
  // transform's sums of 2L terms lose too much in 16 bits.
  torch::Tensor forward(const torch::Tensor& x) { return slot.empty() ? Apply(x, weight, {}) : Hooked(x); }
  LeafKind kind() const override { return LeafKind::kStateSpace; }
  torch::Tensor Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& b) const override;
  void Reset(const at::Generator& generator) override;

  // K_0 + D, K_1 … K_{length−1} of w, the values of any number of channels: [channels, length], in w's dtype.
  torch::Tensor Kernel(const torch::Tensor& w, int64_t length) const;

 private:
  const int64_t pairs_;  // N/2
  const Discretisation discretisation_;
  const Direction direction_;
};
TORCH_MODULE(S4D);

// Both ways over the sequence, each with values of its own, side by side: x [N, L, H] → [N, L, 2H], the second half
// being the backward one's. Keys: forward, backward.
//
// Frozen weights make the same kernels for every pass over sequences of one length: their transforms are kept, up to
// kMostKept bytes, until a pass meets other weights (other arrays, or the same written to) or another length.
class BidirectionalS4DImpl : public torch::nn::Module {
 public:
  static constexpr int64_t kMostKept = int64_t{32} << 20;

  BidirectionalS4DImpl(int64_t channels, int64_t states, Discretisation discretisation);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  // What transforms are made from; holds the arrays, so that no other can take their place in memory.
  struct KernelSource {
    c10::Storage forward, backward;
    int64_t forward_version = 0, backward_version = 0;
    int64_t length = 0;
    torch::ScalarType type = torch::kFloat32;
    bool operator==(const KernelSource& other) const;
  };
  KernelSource SourceOf(int64_t length, torch::ScalarType type) const;
  torch::Tensor BothKernels(int64_t length, torch::ScalarType type) const;
  torch::Tensor KeptTransfer(int64_t length, torch::ScalarType type);

  S4D forward_{nullptr}, backward_{nullptr};
  std::mutex mutex_;  // of these two: passes may come from several threads
  KernelSource kept_source_;
  torch::Tensor kept_;
};
TORCH_MODULE(BidirectionalS4D);

}  // namespace loupe::worker::nn
