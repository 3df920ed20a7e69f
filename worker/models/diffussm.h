// DiffuSSM: a diffusion backbone of state spaces in place of attention, over every latent and without patches (Yan, Gu
// & Rush 2023, "Diffusion Models Without Attention", arXiv 2311.18257).
//
// The authors published no code, and reviewers found the text not enough to build it from. What is the paper's is
// marked with its section; what it leaves open is a setting of config.json, with the reason for its default.
//
//   sequence   latents [C, h, w] row by row: L = h·w places. The stream I has length J = L/M and width D (§4.2: dense
//              layers are computed on the shortened sequence, the state space on the whole one). M neighbours enter
//              it side by side, through one linear layer from M·C to D; the output's linear layer undoes it. [open]
//   block      h = norm(I)(1 + scale) + shift;  O = branch(h);  I ← I + gate ⊙ O      (residual: §4.2; see modulation)
//              for l = jM + k, 0 ≤ k < M, D_M = 2D/M (§4.2, the hourglass's four equations):
//                U_l                    = σ(W_k↑ σ(W⁰ h_j))             ∈ R^D     W⁰: D → D, W_k↑: D → D
//                Y                      = BiSSM(U)                       ∈ R^{L×2D}
//                I'_{j, kD_M:(k+1)D_M}  = σ(W_k↓ Y_l)                    ∈ R^{D_M}  W_k↓: 2D → D_M
//                O_j                    = W³(σ(W² I'_j) ⊙ σ(W¹ h_j))     ∈ R^D     W², W¹: to 2D; W³: 2D → D
//              BiSSM: one S4D (nn/s4d.h) along the sequence and one against it, side by side (§4.1, §4.2).
//   widths     The text gives U, Y, I' and O their widths, but not W¹ and W² theirs. 2D each is what makes the paper's
//              count of work come out: 13(L/M)D² + LD² multiply-adds of dense layers a block (§4.3), 7.5 LD² at M = 2:
//              W⁰ 1, W↓ 4, W² 4, W¹ 2, W³ 2 on J places, and W↑ 1 on L.
//   end        norm(I)(1 + scale) + shift, linear to M·out_channels: noise and diagonal covariance (§4.1).
//
// Settings (config.json):
//   hourglass       M, 1 (none), 2 (the paper's), 4 …
//   modulation      "shift-scale-gate": adaLN-Zero as in DiT, which both independent re-implementations chose.
//                   "shift-scale": no gate. The paper only says that time and class are "integrated at each position"
//                   (§4.2). At its size (29 blocks, D = 1152, 1,000 classes) this one has 669 M parameters where the
//                   paper says 673 M; with the gate there are 707 M.
//   activation      σ: "gelu", as in the gate that the paper takes over (BiGS, arXiv 2212.10544), or "silu".
//   state_size      N of S4D, 64: S4's own.
//   discretisation  "zoh" or "bilinear". Both are published for S4D; zero-order hold is its code's default.
//   positions       "sincos": DiT's, of the places of the stream's grid; "none": the state space knows the order
//   anyway.
//                   DiT's recipe is the one that the paper says it follows.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "worker/nn/ada_layer_norm.h"
#include "worker/nn/patch_embed.h"
#include "worker/nn/s4d.h"
#include "worker/nn/tappable.h"

namespace loupe::worker::models {

struct DiffuSSMConfig {
  int64_t in_channels = 4;
  int64_t out_channels = 8;
  int64_t sample_size = 32;  // latents' height and width that the network was trained on
  int64_t width = 1152;      // D
  int64_t layers = 29;
  int64_t hourglass = 2;  // M
  int64_t classes = 1000;
  int64_t state_size = 64;
  nn::Discretisation discretisation = nn::Discretisation::kZeroOrderHold;
  bool silu = false;      // σ; else gelu
  bool gated = true;      // modulation
  bool positions = true;  // sincos

  // From ssm/config.json. INVALID_ARGUMENT names file, key, value and what is expected.
  static absl::StatusOr<DiffuSSMConfig> Read(const std::string& path);
};

// One block of the header's formula. Taps as in taps.h where there are such places: SA_in is the stream before the
// norm, SA_out what the branch adds to it, Trans_out the block's output; there is no CA and no FFN.
// Keys: modulation.linear, w0, up (W_0↑ … stacked), ssm.forward, ssm.backward, down.k, w1, w2, w3.
class DiffuSSMBlockImpl : public torch::nn::Module, public nn::Tappable {
 public:
  explicit DiffuSSMBlockImpl(const DiffuSSMConfig& config);

  // x: [N, J, D]; condition_silu: [N, D]. Returns x's shape.
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& condition_silu);
  // O for h, before gate and residual: [N, J, D] → the same.
  torch::Tensor Branch(const torch::Tensor& h);

  nn::TappableBlock Describe(std::string name) override;

  nn::TapSlot taps;

 private:
  torch::Tensor Activate(const torch::Tensor& x) const {
    return nn::Activated(x, silu_ ? kernels::Activation::kSilu : kernels::Activation::kGelu);
  }

  const int64_t width_, hourglass_;
  const bool silu_, gated_;
  nn::AdaModulation modulation_{nullptr};
  nn::Linear w0_{nullptr}, up_{nullptr}, w1_{nullptr}, w2_{nullptr}, w3_{nullptr};
  torch::nn::ModuleList down_;
  nn::BidirectionalS4D ssm_{nullptr};
};
TORCH_MODULE(DiffuSSMBlock);

// Keys: embedding.timestep_embedder, embedding.class_embedder, x_embedder, blocks.N, final.modulation, final.linear.
class DiffuSSMModelImpl : public torch::nn::Module {
 public:
  explicit DiffuSSMModelImpl(const DiffuSSMConfig& config);

  // latents: [N, in_channels, H, W], W a multiple of M; timesteps: [N] or [1], any number type; classes: int64 [N],
  // config().classes being the null class. Returns [N, out_channels, H, W] in the latents' dtype.
  torch::Tensor forward(const torch::Tensor& latents, const torch::Tensor& timesteps, const torch::Tensor& classes,
                        nn::PositionScaling scaling = nn::PositionScaling::kTrainedRange);

  const DiffuSSMConfig& config() const { return config_; }

 private:
  const DiffuSSMConfig config_;
  nn::KeptGridPositions places_;
  nn::TimestepClassEmbedding embedding_{nullptr};
  nn::Linear x_embedder_{nullptr}, final_linear_{nullptr};
  torch::nn::ModuleList blocks_;
  nn::AdaModulation final_modulation_{nullptr};
};
TORCH_MODULE(DiffuSSMModel);

}  // namespace loupe::worker::models
