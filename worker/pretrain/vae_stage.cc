#include "worker/pretrain/vae_stage.h"

#include <torch/utils.h>

#include <cmath>
#include <utility>

#include "worker/pretrain/augment.h"
#include "worker/pretrain/step_draws.h"
#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::pretrain {

VaeStage::VaeStage(models::AutoencoderKL network, torch::Tensor pictures, const VaeStageOptions& options, uint64_t seed,
                   LookFunction look)
    : network_(std::move(network)),
      pictures_(std::move(pictures)),
      options_(options),
      seed_(seed),
      look_(std::move(look)) {}

std::pair<models::LatentDistribution, torch::Tensor> VaeStage::Rebuild(const torch::Tensor& x, at::Generator& random) {
  const runtime::AutocastScope autocast({x.device().type(), options_.precision != torch::kFloat32, torch::kBFloat16});
  models::LatentDistribution q = network_->Encode(x);
  q.mean = q.mean.to(torch::kFloat32);
  q.logvar = q.logvar.to(torch::kFloat32);
  const auto noise = torch::randn(q.mean.sizes(), random).to(x.device());
  auto rebuilt = network_->Decode(q.Sample(noise)).to(torch::kFloat32);
  return {std::move(q), std::move(rebuilt)};
}

torch::Tensor VaeStage::Loss(int64_t step, std::map<std::string, torch::Tensor>& parts) {
  auto random = StepGenerator(seed_, step, "vae/changes");
  const auto rows = BatchRows(seed_, "vae", step, options_.batch, pictures_.size(0)).to(pictures_.device());
  const auto unit = pictures_.index_select(0, rows).to(torch::kFloat32) / 255;
  const auto x = (FlipRollPermute(unit, random) * 2 - 1).contiguous(torch::MemoryFormat::ChannelsLast);

  const auto [q, rebuilt] = Rebuild(x, random);
  const auto error = rebuilt - x;
  const auto absolute = error.abs().mean();
  const auto edges = error.diff(1, 3).abs().mean() + error.diff(1, 2).abs().mean();
  const auto kl = 0.5 * (q.mean.square() + q.logvar.exp() - 1 - q.logvar).mean();
  parts["l1"] = absolute.detach();
  parts["kl"] = kl.detach();
  return absolute + options_.squared * error.square().mean() + options_.edges * edges + options_.kl * kl;
}

double ReconstructionPsnr(models::AutoencoderKL& vae, const torch::Tensor& pictures) {
  torch::NoGradGuard no_grad;
  double sum = 0;
  for (const auto& part : pictures.split(32)) {
    const auto x = part.to(torch::kFloat32) / 127.5 - 1;
    sum += (vae->Decode(vae->Encode(x).mean).clamp(-1, 1) - x).square().sum().item<double>();
  }
  return 10 * std::log10(4 * static_cast<double>(pictures.numel()) / sum);
}

}  // namespace loupe::worker::pretrain
