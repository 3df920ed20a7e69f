#include "worker/pretrain/class_stage.h"

#include <utility>
#include <vector>

#include "worker/pretrain/step_draws.h"
#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::pretrain {

ClassStage::ClassStage(std::string name, std::shared_ptr<base::Denoiser> denoiser, ClassData data,
                       const diffusion::NoiseSchedule& schedule, const ClassStageOptions& options, uint64_t seed,
                       LookFunction look)
    : name_(std::move(name)),
      denoiser_(std::move(denoiser)),
      data_(std::move(data)),
      schedule_(schedule),
      variance_(schedule),
      options_(options),
      seed_(seed),
      look_(std::move(look)) {}

torch::Tensor ClassStage::Loss(int64_t step, std::map<std::string, torch::Tensor>& parts) {
  const int64_t n = options_.batch, views = data_.latents_scaled.size(0);
  const torch::Device device = data_.latents_scaled.device();
  auto random = StepGenerator(seed_, step, name_ + "/noise");
  const auto rows = BatchRows(seed_, name_, step, n, data_.classes.size(0)).to(device);
  // The picture as it is half the time.
  auto view = torch::zeros({n}, torch::kInt64);
  if (views > 1) {
    const auto moved = torch::randint(1, views, {n}, random, torch::kInt64);
    view = torch::where(torch::rand({n}, random) < 0.5, moved, view);
  }
  view = view.to(device);
  std::vector<int64_t> shape = data_.latents_scaled[0][0].sizes().vec();
  const auto spread = torch::randn(shape, random).to(device);
  shape.insert(shape.begin(), n);
  const auto noise = torch::randn(shape, random).to(device);
  const int64_t steps = schedule_.config().num_train_timesteps;
  const auto strata = (torch::arange(n) + torch::rand({n}, random)) / static_cast<double>(n);
  const auto t = (strata * steps).to(torch::kInt64).clamp_max(steps - 1).to(device);
  const auto dropped = (torch::rand({n}, random) < options_.class_dropout).to(device);

  const auto clean = data_.latents_scaled.index({view, rows}) + data_.latents_spread.index({view, rows}) * spread;
  const auto noised = schedule_.AddNoise(clean, noise, t);
  const auto classes = torch::where(dropped, data_.null_class, data_.classes.index_select(0, rows)).unsqueeze(1);
  torch::Tensor output;
  {
    const runtime::AutocastScope autocast({device.type(), options_.precision != torch::kFloat32, torch::kBFloat16});
    output = denoiser_->Forward(noised, t, classes).to(torch::kFloat32);
  }
  const auto predicted = denoiser_->NoisePart(output);
  const auto snr = schedule_.SignalToNoise(t);
  const auto simple = ((predicted - noise).square().flatten(1).mean(1) * snr.clamp_max(options_.snr_cap) / snr).mean();
  if (options_.vlb_weight == 0 || !denoiser_->PredictsVariance()) return simple;
  const auto x0 = schedule_.X0FromOutput(noised, predicted, t);
  const auto variance = output.narrow(1, predicted.size(1), predicted.size(1));
  const auto bound =
      variance_.BoundTerms(clean, noised, x0, variance, t).to(torch::kFloat32).mean() * static_cast<double>(steps);
  parts["simple"] = simple.detach();
  parts["vlb"] = bound.detach();
  return simple + options_.vlb_weight * bound;
}

}  // namespace loupe::worker::pretrain
