// Training the autoencoder on pictures.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "worker/models/autoencoder_kl.h"
#include "worker/train/network_training.h"

namespace loupe::worker::pretrain {

struct VaeStageOptions {
  int64_t batch = 8;
  torch::ScalarType precision = torch::kFloat32;  // or kBFloat16: of products and convolutions (autocast)
  double squared = 0.5;                           // weight of the squared error beside the absolute one
  double edges = 0.5;  // weight of the absolute error of differences between neighbours, across and down
  double kl = 5e-4;    // weight of KL(q ‖ N(0, 1)), summed over the latent and averaged over its numbers
};

class VaeStage : public train::Objective {
 public:
  using LookFunction = std::function<absl::StatusOr<std::string>(int64_t step)>;

  // pictures: [N, 3, H, W], uint8.
  VaeStage(models::AutoencoderKL network, torch::Tensor pictures, const VaeStageOptions& options, uint64_t seed,
           LookFunction look);

  std::string name() const override { return "vae"; }
  torch::nn::Module& network() override { return *network_; }
  torch::Tensor Loss(int64_t step, std::map<std::string, torch::Tensor>& parts) override;
  absl::StatusOr<std::string> Look(int64_t step) override { return look_(step); }

 private:
  // What the latents are and what becomes of them, float32.
  std::pair<models::LatentDistribution, torch::Tensor> Rebuild(const torch::Tensor& x, at::Generator& random);

  models::AutoencoderKL network_;
  torch::Tensor pictures_;
  VaeStageOptions options_;
  uint64_t seed_;
  LookFunction look_;
};

// 10 log10(4 / mean squared error) over all of `pictures` (uint8 [N, 3, H, W]; 4 is the squared range of [−1, 1]),
// decoded from the means; in dB.
double ReconstructionPsnr(models::AutoencoderKL& vae, const torch::Tensor& pictures);

}  // namespace loupe::worker::pretrain
