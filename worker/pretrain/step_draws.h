// What an objective draws at a step: from the seed and the step alone, so that resuming needs no generator's state.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

namespace loupe::worker::pretrain {

// A generator for one purpose in one step: seeded with DeriveSeed(seed, step, "pretrain/" + purpose). The CPU's,
// whatever the device: draws are the same on all.
at::Generator StepGenerator(uint64_t seed, int64_t step, const std::string& purpose);

// Rows of the step's batch: every item once per epoch, in an order drawn per epoch; a batch may span two epochs.
torch::Tensor BatchRows(uint64_t seed, const std::string& stage, int64_t step, int64_t batch, int64_t items);

}  // namespace loupe::worker::pretrain
