// A pass of several trials' rows through a base, as one batch: those of each slot of the attached method, one after
// another.
#pragma once

#include <torch/types.h>

#include <optional>
#include <string>
#include <vector>

#include "worker/base/base_model.h"
#include "worker/nn/shared_prefix.h"

namespace loupe::worker::base {

// By slot; all have as many rows.
struct SlotRows {
  std::vector<torch::Tensor> noisy, timesteps;
  std::vector<Condition> conditions;
  // All slots', a row each: encoded instead of taking the conditions, where there are any.
  std::vector<std::string> prompts;
  // Which of them have the same rows, where that is known: else they are compared, which waits for the device.
  std::optional<nn::RowsThatRepeat::Blocks> same = std::nullopt;
};

// The denoiser's output for all of them. What slots with the same rows have in common, as those at one step of a
// replicate and idle ones, is computed once (nn/shared_prefix.h); with `recomputes` it is not, since a recomputed block
// would not find what it shared. One slot's pass is the denoiser's for its rows.
torch::Tensor ForwardOfSlots(BaseModel& base, const SlotRows& slots, bool recomputes = false);

}  // namespace loupe::worker::base
