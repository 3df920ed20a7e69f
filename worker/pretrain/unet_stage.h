// Training the UNet: noise prediction on the autoencoder's latents, conditioned on the frozen text tower.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <string>
#include <vector>

#include "worker/diffusion/noise_schedule.h"
#include "worker/models/unet_2d_condition.h"
#include "worker/train/network_training.h"

namespace loupe::worker::pretrain {

struct UNetStageOptions {
  int64_t batch = 32;
  torch::ScalarType precision = torch::kFloat32;  // or kBFloat16: of products and convolutions (autocast)
  double snr_cap = 5;            // min-SNR-γ (arXiv 2303.09556): weight min(SNR, γ)/SNR on the squared error of ε
  double caption_dropout = 0.1;  // share of rows that see the empty caption, for classifier-free guidance
  int64_t train_steps = 1000;    // of the diffusion
  double beta_start = 0.00085;   // scaled-linear: √β is linear in the step
  double beta_end = 0.012;

  // What the network learns to undo, and what samples of it are drawn by.
  diffusion::NoiseSchedule noise_schedule() const;
};

// Everything that does not change while the UNet learns, computed once.
struct UNetData {
  torch::Tensor latents_scaled;  // [views, N, 4, h, w], the autoencoder's means of each picture as it is and shifted
  torch::Tensor latents_spread;  // [views, N, 4, h, w], their standard deviations, scaled too
  torch::Tensor context;         // [N, captions, tokens, width]
  torch::Tensor empty_context;   // [tokens, width]
};

class UNetStage : public train::Objective {
 public:
  using LookFunction = std::function<absl::StatusOr<std::string>(int64_t step)>;

  UNetStage(models::UNet2DConditionModel network, UNetData data, const UNetStageOptions& options, uint64_t seed,
            LookFunction look);

  std::string name() const override { return "unet"; }
  torch::nn::Module& network() override { return *network_; }
  // Timesteps are stratified: row i of the batch draws from the i-th of `batch` equal parts of [0, train_steps).
  torch::Tensor Loss(int64_t step, std::map<std::string, torch::Tensor>& parts) override;
  absl::StatusOr<std::string> Look(int64_t step) override { return look_(step); }

 private:
  // Every random number of one step, on the CPU.
  struct Draws {
    torch::Tensor rows, view, spread, t, captions, dropped, eps;
  };
  Draws Draw(int64_t step) const;
  // The step's, and on a GPU the next step's begun beside it.
  Draws DrawsOf(int64_t step);
  torch::Tensor Predict(const torch::Tensor& noised, const torch::Tensor& t, const torch::Tensor& context);

  models::UNet2DConditionModel network_;
  UNetData data_;
  UNetStageOptions options_;
  uint64_t seed_;
  LookFunction look_;
  torch::Tensor signal_, noise_;  // √ᾱ_t and √(1 − ᾱ_t), [train_steps], on the device: looked up without waiting for it
  int64_t next_step_ = -1;
  std::future<Draws> next_;  // last: it reads the others
};

}  // namespace loupe::worker::pretrain
