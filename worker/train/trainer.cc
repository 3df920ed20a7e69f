#include "worker/train/trainer.h"

#include <cmath>
#include <filesystem>
#include <stdexcept>

#include "absl/strings/numbers.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"
#include "worker/train/user_error.h"

namespace loupe::worker {
namespace {

constexpr char kFingerprintKey[] = "loupe.checkpoint";
constexpr char kStepKey[] = "loupe.step";

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

std::string SlotPrefix(size_t slot) { return fmt::format("slot{}.", slot); }

}  // namespace

Trainer::Trainer(BaseModel& base, Method& method, std::vector<TrainSlot> slots, const TrainOptions& options)
    : base_(base), method_(method), slots_(std::move(slots)), optimizer_(method.parameters(), options.optimizer) {
  TORCH_CHECK(static_cast<int64_t>(slots_.size()) == method.slots(), "the pack has ", slots_.size(),
              " trials, the method ", method.slots(), " slots");
  for (const TrainSlot& slot : slots_) {
    TORCH_CHECK(slot.source->batch_size() == slots_.front().source->batch_size(),
                "the trials of a pack must have one batch size");
  }
}

Trainer::Drawn Trainer::Draw() {
  std::vector<torch::Tensor> latents, context, weights, noise, timesteps;
  for (TrainSlot& slot : slots_) {
    Batch batch = slot.source->Next();
    noise.push_back(slot.noise.Normal(batch.latents.sizes()));
    timesteps.push_back(
        slot.timesteps.Integers(base_.schedule.config().num_train_timesteps, {batch.latents.size(0)}));
    latents.push_back(batch.latents);
    context.push_back(batch.context);
    weights.push_back(batch.weights);
  }
  const auto device = latents.front().device();
  return {torch::cat(latents), torch::cat(context), torch::cat(weights), torch::cat(noise).to(device),
          torch::cat(timesteps).to(device)};
}

Trainer::StepResult Trainer::Step() {
  const Drawn drawn = Draw();
  const auto noisy = base_.schedule.AddNoise(drawn.latents, drawn.noise, drawn.timesteps);
  const auto target = base_.schedule.Target(drawn.latents, drawn.noise, drawn.timesteps);
  const auto output = base_.unet(noisy, drawn.timesteps, drawn.context);
  const auto errors = (output - target).square().flatten(1).mean(1);
  // The slots' losses are added, not averaged: a trial's gradient does not depend on the pack's size.
  const auto losses = (errors * drawn.weights).view({method_.slots(), -1}).sum(1);
  const auto losses_cpu = losses.detach().to(torch::kCPU, torch::kFloat64).contiguous();
  StepResult result;
  result.losses.assign(losses_cpu.const_data_ptr<double>(), losses_cpu.const_data_ptr<double>() + losses_cpu.numel());
  for (const double loss : result.losses) {
    if (!std::isfinite(loss)) return result;
  }
  losses.sum().backward();
  const auto norms = optimizer_.Step().to(torch::kCPU, torch::kFloat64).contiguous();
  result.gradient_norms.assign(norms.const_data_ptr<double>(), norms.const_data_ptr<double>() + norms.numel());
  return result;
}

void Trainer::SaveCheckpoint(const std::string& path, const std::string& fingerprint) const {
  TensorMap arrays;
  for (int64_t k = 0; k < method_.slots(); ++k) {
    AddWithPrefix(fmt::format("method{}.", k), method_.Export(k), arrays);
  }
  AddWithPrefix("optimizer.", optimizer_.Export(), arrays);
  for (size_t k = 0; k < slots_.size(); ++k) {
    const TrainSlot& slot = slots_[k];
    AddWithPrefix(SlotPrefix(k), slot.source->Save(), arrays);
    arrays[SlotPrefix(k) + "noise"] = slot.noise.State();
    arrays[SlotPrefix(k) + "timesteps"] = slot.timesteps.State();
  }
  const Metadata metadata = {{kFingerprintKey, fingerprint}, {kStepKey, fmt::format("{}", steps())}};
  const absl::Status status = WriteSafetensors(path, ToArrays(arrays).views, metadata);
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
  TensorMap arrays;
  for (const auto& [name, view] : file->arrays()) arrays[name] = ToTensor(view);
  int64_t step = 0;
  TORCH_CHECK(absl::SimpleAtoi(file->metadata().at(kStepKey), &step), path, ": its step is no number");
  for (int64_t k = 0; k < method_.slots(); ++k) {
    method_.Import(k, WithPrefixRemoved(fmt::format("method{}.", k), arrays));
  }
  optimizer_.Import(WithPrefixRemoved("optimizer.", arrays), step);
  for (size_t k = 0; k < slots_.size(); ++k) {
    slots_[k].source->Restore(WithPrefixRemoved(SlotPrefix(k), arrays));
    slots_[k].noise.SetState(TakeState(arrays, SlotPrefix(k) + "noise"));
    slots_[k].timesteps.SetState(TakeState(arrays, SlotPrefix(k) + "timesteps"));
  }
  return true;
}

}  // namespace loupe::worker
