// Training the UNet: noise prediction on the autoencoder's latents, conditioned on the frozen text tower.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "worker/models/unet_2d_condition.h"
#include "worker/pretrain/stage.h"

namespace loupe::worker {

struct UNetStageOptions {
  int64_t batch = 32;
  torch::ScalarType precision = torch::kFloat32;  // or kBFloat16: of products and convolutions (autocast)
  double snr_cap = 5;            // min-SNR-γ (arXiv 2303.09556): weight min(SNR, γ)/SNR on the squared error of ε
  double caption_dropout = 0.1;  // share of rows that see the empty caption, for classifier-free guidance
  int64_t train_steps = 1000;    // of the diffusion
  double beta_start = 0.00085;   // scaled-linear: √β is linear in the step
  double beta_end = 0.012;
};

// Everything that does not change while the UNet learns, computed once.
struct UNetData {
  torch::Tensor latents_scaled;  // [N, 4, h, w], the autoencoder's means
  torch::Tensor latents_spread;  // [N, 4, h, w], their standard deviations, scaled too
  torch::Tensor context;         // [N, captions, tokens, width]
  torch::Tensor empty_context;   // [tokens, width]
};

class UNetStage : public Stage {
 public:
  using LookFunction = std::function<absl::StatusOr<std::string>(int64_t step)>;

  UNetStage(UNet2DConditionModel network, UNetData data, const UNetStageOptions& options, uint64_t seed,
            LookFunction look);

  std::string name() const override { return "unet"; }
  torch::nn::Module& network() override { return *network_; }
  // Timesteps are stratified: row i of the batch draws from the i-th of `batch` equal parts of [0, train_steps).
  torch::Tensor Loss(int64_t step, std::map<std::string, double>& parts) override;
  absl::StatusOr<std::string> Look(int64_t step) override { return look_(step); }

  // √ᾱ_t, [train_steps].
  const torch::Tensor& signal() const { return signal_; }

 private:
  torch::Tensor Predict(const torch::Tensor& noised, const torch::Tensor& t, const torch::Tensor& context);

  UNet2DConditionModel network_;
  UNetData data_;
  UNetStageOptions options_;
  uint64_t seed_;
  LookFunction look_;
  torch::Tensor signal_, noise_;  // √ᾱ_t and √(1 − ᾱ_t)
};

}  // namespace loupe::worker
