#include "worker/pretrain/unet_stage.h"

#include <utility>

#include "worker/pretrain/step_draws.h"
#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::pretrain {

diffusion::NoiseSchedule UNetStageOptions::noise_schedule() const {
  return diffusion::NoiseSchedule(
      diffusion::NoiseScheduleConfig{.num_train_timesteps = train_steps,
                                     .beta_start = beta_start,
                                     .beta_end = beta_end,
                                     .timestep_spacing = diffusion::TimestepSpacing::kLinspace});
}

UNetStage::UNetStage(models::UNet2DConditionModel network, UNetData data, const UNetStageOptions& options,
                     uint64_t seed, LookFunction look)
    : network_(std::move(network)), data_(std::move(data)), options_(options), seed_(seed), look_(std::move(look)) {
  const torch::Tensor kept = options.noise_schedule().alphas_cumprod();
  const torch::Device device = data_.latents_scaled.device();
  signal_ = kept.sqrt().to(device);
  noise_ = (1 - kept).sqrt().to(device);
}

torch::Tensor UNetStage::Predict(const torch::Tensor& noised, const torch::Tensor& t, const torch::Tensor& context) {
  const runtime::AutocastScope autocast(
      {noised.device().type(), options_.precision != torch::kFloat32, torch::kBFloat16});
  return network_(noised, t, context).to(torch::kFloat32);
}

UNetStage::Draws UNetStage::Draw(int64_t step) const {
  const int64_t n = options_.batch, views = data_.latents_scaled.size(0);
  auto random = StepGenerator(seed_, step, "unet/noise");
  Draws draws;
  draws.rows = BatchRows(seed_, "unet", step, n, data_.latents_scaled.size(1));
  draws.view = torch::zeros({n}, torch::kInt64);
  if (views > 1) {
    // The picture as it is half the time.
    const auto moved = torch::randint(1, views, {n}, random, torch::kInt64);
    draws.view = torch::where(torch::rand({n}, random) < 0.5, moved, draws.view);
  }
  draws.spread = torch::randn(data_.latents_scaled[0][0].sizes(), random);
  const auto strata = (torch::arange(n) + torch::rand({n}, random)) / static_cast<double>(n);
  draws.t = (strata * options_.train_steps).to(torch::kInt64).clamp_max(options_.train_steps - 1);
  draws.captions = torch::randint(0, data_.context.size(1), {n}, random, torch::kInt64);
  draws.dropped = torch::rand({n}, random) < options_.caption_dropout;
  std::vector<int64_t> shape = data_.latents_scaled[0][0].sizes().vec();
  shape.insert(shape.begin(), n);
  draws.eps = torch::randn(shape, random);
  return draws;
}

UNetStage::Draws UNetStage::DrawsOf(int64_t step) {
  Draws draws;
  if (next_.valid() && next_step_ == step) {
    draws = next_.get();
  } else {
    draws = Draw(step);
  }
  // A million numbers take the CPU a fifth of the time that it needs to start a step's kernels: done beside that.
  if (data_.latents_scaled.is_cuda()) {
    next_step_ = step + 1;
    next_ = std::async(std::launch::async, [this, following = step + 1] { return Draw(following); });
  }
  return draws;
}

torch::Tensor UNetStage::Loss(int64_t step, std::map<std::string, torch::Tensor>&) {
  const int64_t n = options_.batch;
  const torch::Device device = data_.latents_scaled.device();
  const Draws draws = DrawsOf(step);
  const auto rows = draws.rows.to(device), view = draws.view.to(device), t = draws.t.to(device);
  const auto means = data_.latents_scaled.index({view, rows}), spreads = data_.latents_spread.index({view, rows});
  const auto clean = means + spreads * draws.spread.to(device);
  const auto signal = signal_.index_select(0, t), noise = noise_.index_select(0, t);
  const auto dropped = draws.dropped.to(device).view({n, 1, 1});
  const auto context =
      torch::where(dropped, data_.empty_context.unsqueeze(0), data_.context.index({rows, draws.captions.to(device)}));
  const auto eps = draws.eps.to(device);
  const auto noised = signal.view({n, 1, 1, 1}) * clean + noise.view({n, 1, 1, 1}) * eps;
  const auto error = (Predict(noised.contiguous(torch::MemoryFormat::ChannelsLast), t, context) - eps).square();
  const auto snr = (signal / noise).square();
  return (error.mean({1, 2, 3}) * (snr.clamp_max(options_.snr_cap) / snr)).mean();
}

}  // namespace loupe::worker::pretrain
