// Training a class-conditional denoiser (DiT, DiffuSSM): noise and its variance on the autoencoder's latents, told the
// class, now and then the null class.
//
//   L_hybrid = L_simple + λ L_vlb   (Nichol & Dhariwal 2021, arXiv 2102.09672 §3.1; λ = 0.001, which DiT and DiffuSSM
//                                    both take over; diffusion/learned_variance.h)
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "worker/base/denoiser.h"
#include "worker/diffusion/learned_variance.h"
#include "worker/diffusion/noise_schedule.h"
#include "worker/train/network_training.h"

namespace loupe::worker::pretrain {

struct ClassStageOptions {
  int64_t batch = 32;
  torch::ScalarType precision = torch::kFloat32;  // or kBFloat16: of products and convolutions (autocast)
  double snr_cap = 5;          // min-SNR-γ (arXiv 2303.09556): weight min(SNR, γ)/SNR on the squared error of ε
  double vlb_weight = 0.001;   // λ; 0 where no variance is predicted
  double class_dropout = 0.1;  // share of rows that see the null class, for classifier-free guidance
};

// Everything that does not change while the network learns.
struct ClassData {
  torch::Tensor latents_scaled;  // [views, N, 4, h, w], the autoencoder's means of each picture as it is and shifted
  torch::Tensor latents_spread;  // [views, N, 4, h, w], their standard deviations, scaled too
  torch::Tensor classes;         // int64 [N]
  int64_t null_class = 0;
};

class ClassStage : public train::Objective {
 public:
  using LookFunction = std::function<absl::StatusOr<std::string>(int64_t step)>;

  ClassStage(std::string name, std::shared_ptr<base::Denoiser> denoiser, ClassData data,
             const diffusion::NoiseSchedule& schedule, const ClassStageOptions& options, uint64_t seed,
             LookFunction look);

  std::string name() const override { return name_; }
  torch::nn::Module& network() override { return denoiser_->network(); }
  // Timesteps are stratified: row i of the batch draws from the i-th of `batch` equal parts.
  torch::Tensor Loss(int64_t step, std::map<std::string, torch::Tensor>& parts) override;
  absl::StatusOr<std::string> Look(int64_t step) override { return look_(step); }

 private:
  const std::string name_;
  const std::shared_ptr<base::Denoiser> denoiser_;
  const ClassData data_;
  const diffusion::NoiseSchedule schedule_;
  const diffusion::LearnedVariance variance_;
  const ClassStageOptions options_;
  const uint64_t seed_;
  const LookFunction look_;
};

}  // namespace loupe::worker::pretrain
