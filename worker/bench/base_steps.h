// A base's training step, sampling step, decoding and reading of prompts, each watched by kind of module.
#pragma once

#include <torch/types.h>

#include <vector>

#include "worker/base/base_model.h"
#include "worker/bench/roofline.h"
#include "worker/bench/step_watch.h"

namespace loupe::worker::bench {

// The training step is the product's (Trainer): random latents under one prompt, and an adapter of width 32 from CA_out
// to FFN_in, or where the base has no such places from SA_out to FFN_in or Trans_out. The sampling step is one guided
// call of the network (twice as many rows as pictures, with the text's keys and values kept) and the sampler's own
// arithmetic.
std::vector<RooflineSection> WatchBase(base::BaseModel& base, const RooflineRequest& request, const StepClock& clock);

}  // namespace loupe::worker::bench
