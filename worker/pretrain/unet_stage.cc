#include "worker/pretrain/unet_stage.h"

#include <cmath>
#include <utility>

#include "worker/runtime/autocast_scope.h"

namespace loupe::worker {

UNetStage::UNetStage(UNet2DConditionModel network, UNetData data, const UNetStageOptions& options, uint64_t seed,
                     LookFunction look)
    : network_(std::move(network)), data_(std::move(data)), options_(options), seed_(seed), look_(std::move(look)) {
  const auto betas =
      torch::linspace(std::sqrt(options.beta_start), std::sqrt(options.beta_end), options.train_steps, torch::kFloat64)
          .square();
  const auto kept = torch::cumprod(1 - betas, 0);
  const torch::Device device = data_.latents_scaled.device();
  signal_ = kept.sqrt().to(device, torch::kFloat32);
  noise_ = (1 - kept).sqrt().to(device, torch::kFloat32);
}

torch::Tensor UNetStage::Predict(const torch::Tensor& noised, const torch::Tensor& t, const torch::Tensor& context) {
  const AutocastScope autocast({noised.device().type(), options_.precision != torch::kFloat32, torch::kBFloat16});
  return network_(noised, t, context).to(torch::kFloat32);
}

torch::Tensor UNetStage::Loss(int64_t step, std::map<std::string, double>&) {
  const int64_t n = options_.batch;
  const torch::Device device = data_.latents_scaled.device();
  auto random = StepGenerator(seed_, step, "unet/noise");
  const auto rows = BatchRows(seed_, "unet", step, n, data_.latents_scaled.size(0)).to(device);
  const auto spread = torch::randn(data_.latents_scaled[0].sizes(), random).to(device);
  const auto clean = data_.latents_scaled.index_select(0, rows) + data_.latents_spread.index_select(0, rows) * spread;

  const auto strata = (torch::arange(n) + torch::rand({n}, random)) / static_cast<double>(n);
  const auto t = (strata * options_.train_steps).to(device, torch::kInt64).clamp_max(options_.train_steps - 1);
  const auto signal = signal_.index_select(0, t), noise = noise_.index_select(0, t);

  const auto captions = torch::randint(0, data_.context.size(1), {n}, random, torch::kInt64).to(device);
  const auto dropped = (torch::rand({n}, random) < options_.caption_dropout).to(device).view({n, 1, 1});
  const auto context = torch::where(dropped, data_.empty_context.unsqueeze(0), data_.context.index({rows, captions}));

  const auto eps = torch::randn(clean.sizes(), random).to(device);
  const auto noised = signal.view({n, 1, 1, 1}) * clean + noise.view({n, 1, 1, 1}) * eps;
  const auto error = (Predict(noised.contiguous(torch::MemoryFormat::ChannelsLast), t, context) - eps).square();
  const auto snr = (signal / noise).square();
  return (error.mean({1, 2, 3}) * (snr.clamp_max(options_.snr_cap) / snr)).mean();
}

}  // namespace loupe::worker
