#include "worker/train/trainer.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <stdexcept>

#include "absl/strings/numbers.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"
#include "worker/runtime/autocast_scope.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/recompute.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker {
namespace {

constexpr char kFingerprintKey[] = "loupe.checkpoint";
constexpr char kStepKey[] = "loupe.step";
constexpr char kDigestKey[] = "loupe.arrays_sha256";

void AddWithPrefix(const std::string& prefix, const TensorMap& from, TensorMap& into) {
  for (const auto& [name, value] : from) into[prefix + name] = value;
}

TensorMap WithPrefixRemoved(const std::string& prefix, const TensorMap& from) {
  TensorMap found;
  for (const auto& [name, value] : from) {
    if (name.starts_with(prefix)) found[name.substr(prefix.size())] = value;
  }
  return found;
}

std::vector<double> Numbers(const torch::Tensor& row) {
  const auto numbers = row.to(torch::kCPU, torch::kFloat64).contiguous();
  return {numbers.const_data_ptr<double>(), numbers.const_data_ptr<double>() + numbers.numel()};
}

std::string SlotPrefix(size_t slot) { return fmt::format("slot{}.", slot); }

}  // namespace

Trainer::Trainer(BaseModel& base, Method& method, std::vector<TrainSlot> slots, const TrainOptions& options)
    : base_(base),
      method_(method),
      slots_(std::move(slots)),
      options_(options),
      optimizer_(method.parameters(), options.optimizer),
      scaler_(options.loss_scale > 0 ? options.loss_scale : 1),
      variance_(base.schedule),
      errors_(torch::zeros({2, method.slots()}, torch::kFloat64)) {
  TORCH_CHECK(options_.vlb_weight == 0 || base.predicts_variance(), "the base predicts no variance to train");
  TORCH_CHECK(static_cast<int64_t>(slots_.size()) == method.slots(), "the pack has ", slots_.size(),
              " trials, the method ", method.slots(), " slots");
  for (const TrainSlot& slot : slots_) {
    TORCH_CHECK(slot.source->batch_size() == slots_.front().source->batch_size(),
                "the trials of a pack must have one batch size");
  }
  if (options_.ema_decay > 0) {
    for (const NamedParameter& parameter : method_.parameters()) {
      average_.push_back(parameter.value.detach().clone());
    }
  }
}

Trainer::Drawn Trainer::Draw() {
  std::vector<torch::Tensor> latents, context, weights, noise, timesteps;
  for (TrainSlot& slot : slots_) {
    Batch batch = slot.source->Next();
    noise.push_back(slot.noise.Normal(batch.latents.sizes()));
    if (options_.noise_offset > 0) {
      noise.back() += options_.noise_offset * slot.noise.Normal({batch.latents.size(0), batch.latents.size(1), 1, 1});
    }
    timesteps.push_back(slot.timesteps.Integers(base_.schedule.config().num_train_timesteps, {batch.latents.size(0)}));
    latents.push_back(batch.latents);
    context.push_back(batch.context);
    weights.push_back(batch.weights);
  }
  const auto device = latents.front().device();
  return {torch::cat(latents), torch::cat(context), torch::cat(weights), torch::cat(noise).to(device),
          torch::cat(timesteps).to(device)};
}

torch::Tensor Trainer::Predict(const torch::Tensor& noisy, const Drawn& drawn) {
  const RecomputeScope recompute(options_.recompute);
  if (options_.precision == torch::kFloat) return base_.unet(noisy, drawn.timesteps, drawn.context);
  const AutocastScope autocast({noisy.device().type(), true, options_.precision});
  return base_.unet(noisy, drawn.timesteps, drawn.context).to(torch::kFloat);
}

torch::Tensor Trainer::SlotLosses(const Drawn& drawn) {
  const auto noisy = base_.schedule.AddNoise(drawn.latents, drawn.noise, drawn.timesteps);
  const auto target = base_.schedule.Target(drawn.latents, drawn.noise, drawn.timesteps);
  const auto output = Predict(noisy, drawn);
  const auto noise_part = base_.NoisePart(output);
  auto errors = (noise_part - target).square().flatten(1).mean(1);
  const auto relative = errors.detach().view({method_.slots(), -1}).mean(1) /
                        target.square().flatten(1).mean(1).view({method_.slots(), -1}).mean(1);
  if (options_.min_snr_gamma > 0) {
    const auto snr = base_.schedule.SignalToNoise(drawn.timesteps);
    const bool predicts_v = base_.schedule.config().prediction_type == PredictionType::kVPrediction;
    errors = errors * snr.clamp_max(options_.min_snr_gamma) / (predicts_v ? snr + 1 : snr);
  }
  if (options_.vlb_weight > 0) {
    const auto x0 = base_.schedule.X0FromOutput(noisy, noise_part, drawn.timesteps);
    const auto variance_part = output.narrow(1, noise_part.size(1), noise_part.size(1));
    const auto bound = variance_.BoundTerms(drawn.latents, noisy, x0, variance_part, drawn.timesteps);
    const auto timesteps = static_cast<double>(base_.schedule.config().num_train_timesteps);
    errors = errors + options_.vlb_weight * timesteps * bound.to(torch::kFloat32);
  }
  return torch::stack({(errors * drawn.weights).view({method_.slots(), -1}).sum(1), relative});
}

std::string Trainer::CauseOf(const Drawn& drawn) {
  torch::NoGradGuard no_grad;
  const auto noisy = base_.schedule.AddNoise(drawn.latents, drawn.noise, drawn.timesteps);
  {
    const MethodDisabled off(&method_);
    const std::string alone = worker::DescribeNotFinite(base_.unet(noisy, drawn.timesteps, drawn.context));
    if (!alone.empty()) return fmt::format("{}: what the UNet predicts: {}; the base is broken", base_.folder, alone);
    const std::string rounded = worker::DescribeNotFinite(Predict(noisy, drawn));
    if (!rounded.empty()) {
      return fmt::format("{}: what the UNet predicts in 16 bits: {}; set train.precision to float32", base_.folder,
                         rounded);
    }
  }
  if (steps() > 0) return "";
  const std::string initial = worker::DescribeNotFinite(Predict(noisy, drawn));
  if (initial.empty()) return "";
  return fmt::format(
      "what the UNet predicts with the adapter's initial values: {}; lower method.scale, or set method.init to zero",
      initial);
}

Trainer::StepResult Trainer::Step() {
  torch::Tensor total;
  Drawn drawn;
  for (int64_t i = 0; i < options_.accumulation; ++i) {
    drawn = Draw();
    const auto losses = SlotLosses(drawn) / static_cast<double>(options_.accumulation);
    // The slots' losses are added, not averaged: a trial's gradient does not depend on the pack's size.
    const auto loss = losses[0].sum();
    (options_.loss_scale > 0 ? loss * scaler_.scale() : loss).backward();
    total = total.defined() ? total + losses.detach() : losses.detach();
  }
  total = total.to(torch::kCPU, torch::kFloat64);
  StepResult result;
  result.losses = Numbers(total[0]);
  for (const double loss : result.losses) {
    if (std::isfinite(loss)) continue;
    result.cause = CauseOf(drawn);
    ClearGradients();
    return result;
  }
  if (options_.loss_scale > 0 && !UnscaleGradients()) {
    result.skipped = true;
    return result;
  }
  UpdateErrors(total[1]);
  result.first_errors = Numbers(errors_[0]);
  result.running_errors = Numbers(errors_[1]);
  result.gradient_norms = Numbers(optimizer_.Step(options_.schedule.FactorAt(steps())));
  UpdateAverage();
  return result;
}

// Divides the gradients by the scale; clears them and returns false when one of them overflowed.
bool Trainer::UnscaleGradients() {
  torch::NoGradGuard no_grad;
  torch::Tensor finite;
  for (const NamedParameter& parameter : method_.parameters()) {
    torch::Tensor gradient = parameter.value.grad();
    if (!gradient.defined()) continue;
    gradient.div_(scaler_.scale());
    const auto all = gradient.isfinite().all();
    finite = finite.defined() ? finite.logical_and(all) : all;
  }
  const bool good = !finite.defined() || finite.item<bool>();
  scaler_.Update(good);
  if (good) return true;
  ClearGradients();
  if (scaler_.exhausted()) {
    // Nothing has been trained at the first step: no learning rate is to blame.
    throw UserError(fmt::format(
        "the gradients overflow at step {} whatever the loss scale: {}set train.precision to float32", steps() + 1,
        steps() == 0 ? "the network overflows in 16 bits; "
                     : "training diverged, or the network overflows in 16 bits; lower train.learning_rate, or "));
  }
  return false;
}

void Trainer::ClearGradients() {
  for (const NamedParameter& parameter : method_.parameters()) parameter.value.mutable_grad().reset();
}

void Trainer::UpdateAverage() {
  torch::NoGradGuard no_grad;
  const auto t = static_cast<double>(steps());
  const double decay = std::min(options_.ema_decay, (1 + t) / (10 + t));
  for (size_t i = 0; i < average_.size(); ++i) average_[i].lerp_(method_.parameters()[i].value, 1 - decay);
}

// Of the step that is about to be taken: a plain mean at first, then a decaying one.
void Trainer::UpdateErrors(const torch::Tensor& errors) {
  const auto t = static_cast<double>(steps());
  if (steps() == 0) errors_[0].copy_(errors);
  errors_[1].lerp_(errors, 1 - std::min(0.95, t / (t + 1)));
}

std::string Trainer::DescribeNotFinite() const {
  for (size_t i = 0; i < method_.parameters().size(); ++i) {
    const NamedParameter& parameter = method_.parameters()[i];
    std::string found = worker::DescribeNotFinite(parameter.value);
    if (found.empty() && i < average_.size()) found = worker::DescribeNotFinite(average_[i]);
    if (!found.empty()) return fmt::format("{}: {}", parameter.name, found);
  }
  return "";
}

void Trainer::SwapAverage() {
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < average_.size(); ++i) {
    torch::Tensor value = method_.parameters()[i].value;
    const torch::Tensor trained = value.detach().clone();
    value.copy_(average_[i]);
    average_[i].copy_(trained);
  }
}

void Trainer::SaveCheckpoint(const std::string& path, const std::string& fingerprint) const {
  TensorMap arrays;
  for (int64_t k = 0; k < method_.slots(); ++k) {
    AddWithPrefix(fmt::format("method{}.", k), method_.Export(k), arrays);
  }
  AddWithPrefix("optimizer.", optimizer_.Export(), arrays);
  for (size_t i = 0; i < average_.size(); ++i) {
    arrays["average." + method_.parameters()[i].name] = average_[i].cpu().clone();
  }
  arrays["errors"] = errors_;
  arrays["loss_scale"] = torch::tensor({scaler_.scale(), static_cast<double>(scaler_.good_steps())}, torch::kFloat64);
  for (size_t k = 0; k < slots_.size(); ++k) {
    const TrainSlot& slot = slots_[k];
    AddWithPrefix(SlotPrefix(k), slot.source->Save(), arrays);
    arrays[SlotPrefix(k) + "noise"] = slot.noise.State();
    arrays[SlotPrefix(k) + "timesteps"] = slot.timesteps.State();
  }
  const TensorArrays written = ToArrays(arrays);
  const Metadata metadata = {{kFingerprintKey, fingerprint},
                             {kStepKey, fmt::format("{}", steps())},
                             {kDigestKey, DigestOfArrays(written.views)}};
  const absl::Status status = WriteSafetensors(path, written.views, metadata);
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
}

bool Trainer::LoadCheckpoint(const std::string& path, const std::string& fingerprint) {
  if (!std::filesystem::exists(path)) return false;
  const auto file = SafetensorsFile::Open(path);
  if (!file.ok()) {
    spdlog::warn("the checkpoint is not used, training starts anew: {}", std::string(file.status().message()));
    return false;
  }
  const auto found = file->metadata().find(kFingerprintKey);
  if (found == file->metadata().end() || found->second != fingerprint) {
    spdlog::info("{}: a checkpoint of other settings, seeds or data; training starts anew", path);
    return false;
  }
  const auto digest = file->metadata().find(kDigestKey);
  if (digest == file->metadata().end() || digest->second != DigestOfArrays(file->arrays())) {
    spdlog::warn(
        "{}: its arrays do not have the digest that it names; the checkpoint is not used, training starts anew", path);
    return false;
  }
  TensorMap arrays;
  for (const auto& [name, view] : file->arrays()) arrays[name] = ToTensor(view);
  int64_t step = 0;
  TORCH_CHECK(absl::SimpleAtoi(file->metadata().at(kStepKey), &step), path, ": its step is no number");
  for (int64_t k = 0; k < method_.slots(); ++k) {
    method_.Import(k, WithPrefixRemoved(fmt::format("method{}.", k), arrays));
  }
  optimizer_.Import(WithPrefixRemoved("optimizer.", arrays), step);
  for (size_t i = 0; i < average_.size(); ++i) {
    average_[i].copy_(TakeState(arrays, "average." + method_.parameters()[i].name));
  }
  errors_.copy_(TakeState(arrays, "errors"));
  const torch::Tensor& loss_scale = TakeState(arrays, "loss_scale");
  scaler_ = LossScaler(loss_scale[0].item<double>(), loss_scale[1].item<int64_t>());
  for (size_t k = 0; k < slots_.size(); ++k) {
    slots_[k].source->Restore(WithPrefixRemoved(SlotPrefix(k), arrays));
    slots_[k].noise.SetState(TakeState(arrays, SlotPrefix(k) + "noise"));
    slots_[k].timesteps.SetState(TakeState(arrays, SlotPrefix(k) + "timesteps"));
  }
  return true;
}

double ValidationLoss(BaseModel& base, const ValidationRows& rows) {
  torch::NoGradGuard no_grad;
  constexpr int64_t kPart = 16;  // bounds memory
  double sum = 0;
  for (int64_t first = 0; first < rows.latents.size(0); first += kPart) {
    const int64_t count = std::min(kPart, rows.latents.size(0) - first);
    const auto part = [&](const torch::Tensor& all) { return all.narrow(0, first, count); };
    const auto noisy = base.schedule.AddNoise(part(rows.latents), part(rows.noise), part(rows.timesteps));
    const auto target = base.schedule.Target(part(rows.latents), part(rows.noise), part(rows.timesteps));
    const auto output = base.unet(noisy, part(rows.timesteps), part(rows.context));
    sum += (base.NoisePart(output) - target).square().flatten(1).mean(1).sum().item<double>();
  }
  return sum / static_cast<double>(rows.latents.size(0));
}

}  // namespace loupe::worker
