#include "worker/train/validation.h"

#include <torch/utils.h>

#include <algorithm>

#include "worker/base/slot_pass.h"

namespace loupe::worker::train {
namespace {

constexpr int64_t kValidationPart = 16;  // bounds memory

// Of one part, by slot of the attached method.
std::vector<double> PartSums(base::BaseModel& base, const std::vector<const ValidationRows*>& slots, int64_t part) {
  const int64_t first = part * kValidationPart;
  const int64_t count = std::min(kValidationPart, slots.front()->latents.size(0) - first);
  base::SlotRows inputs;
  std::vector<torch::Tensor> targets;
  for (const ValidationRows* rows : slots) {
    const auto its = [&](const torch::Tensor& all) { return all.narrow(0, first, count); };
    const torch::Tensor latents = its(rows->latents), noise = its(rows->noise), timesteps = its(rows->timesteps);
    inputs.noisy.push_back(base.schedule.AddNoise(latents, noise, timesteps));
    inputs.timesteps.push_back(timesteps);
    inputs.conditions.push_back(its(rows->context));
    targets.push_back(base.schedule.Target(latents, noise, timesteps));
    if (rows->prompts.empty()) continue;
    const auto prompt = rows->prompts.begin() + static_cast<std::ptrdiff_t>(first);
    inputs.prompts.insert(inputs.prompts.end(), prompt, prompt + static_cast<std::ptrdiff_t>(count));
  }
  const torch::Tensor output = base.denoiser->NoisePart(base::ForwardOfSlots(base, inputs));
  std::vector<double> sums;
  for (size_t slot = 0; slot < slots.size(); ++slot) {
    const torch::Tensor its = output.narrow(0, static_cast<int64_t>(slot) * count, count);
    sums.push_back((its - targets[slot]).square().flatten(1).mean(1).sum().item<double>());
  }
  return sums;
}

}  // namespace

int64_t ValidationParts(const ValidationRows& rows) {
  return (rows.latents.size(0) + kValidationPart - 1) / kValidationPart;
}

std::vector<double> ValidationSums(base::BaseModel& base, const ValidationRows& rows, int64_t first_part,
                                   int64_t parts) {
  torch::NoGradGuard no_grad;
  std::vector<double> sums;
  for (int64_t part = first_part; part < first_part + parts; ++part) {
    sums.push_back(PartSums(base, {&rows}, part).front());
  }
  return sums;
}

std::vector<double> ValidationLosses(base::BaseModel& base, const std::vector<const ValidationRows*>& slots) {
  torch::NoGradGuard no_grad;
  std::vector<std::vector<double>> sums(slots.size());
  for (int64_t part = 0; part < ValidationParts(*slots.front()); ++part) {
    const std::vector<double> of_part = PartSums(base, slots, part);
    for (size_t slot = 0; slot < slots.size(); ++slot) sums[slot].push_back(of_part[slot]);
  }
  std::vector<double> losses;
  for (size_t slot = 0; slot < slots.size(); ++slot) losses.push_back(ValidationLossFrom(sums[slot], *slots[slot]));
  return losses;
}

double ValidationLossFrom(const std::vector<double>& sums, const ValidationRows& rows) {
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum / static_cast<double>(rows.latents.size(0));
}

double ValidationLoss(base::BaseModel& base, const ValidationRows& rows) {
  return ValidationLosses(base, {&rows}).front();
}

}  // namespace loupe::worker::train
