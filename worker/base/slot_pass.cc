#include "worker/base/slot_pass.h"

#include <torch/utils.h>

#include <optional>

namespace loupe::worker::base {

namespace {

nn::RowsThatRepeat::Blocks Compared(const SlotRows& slots) {
  std::vector<nn::SharedPrefix::Tensors> inputs;
  inputs.reserve(slots.noisy.size());
  for (size_t slot = 0; slot < slots.noisy.size(); ++slot) {
    inputs.push_back({slots.timesteps[slot], slots.noisy[slot], slots.conditions[slot]});
  }
  return nn::RowsThatRepeat::BlocksOf(inputs);
}

}  // namespace

torch::Tensor ForwardOfSlots(BaseModel& base, const SlotRows& slots, bool recomputes) {
  std::optional<nn::RowsThatRepeat> repeated;
  if (slots.noisy.size() > 1 && !recomputes) repeated.emplace(slots.same ? *slots.same : Compared(slots));
  const auto input = [&](const std::vector<torch::Tensor>& of_slots) {
    torch::Tensor all = torch::cat(of_slots);
    if (repeated) repeated->Begin(all);
    return all;
  };
  const Condition condition = slots.prompts.empty() ? input(slots.conditions) : base.conditioner->Encode(slots.prompts);
  const torch::Tensor noisy = input(slots.noisy), timesteps = input(slots.timesteps);
  const nn::SharedPrefixScope scope(repeated ? &*repeated : nullptr);
  return base.denoiser->Forward(noisy, timesteps, condition);
}

}  // namespace loupe::worker::base
