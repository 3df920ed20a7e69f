// What a device does at best, by LibTorch's own kernels on large arrays.
#pragma once

#include <torch/types.h>

#include "worker/bench/roofline.h"
#include "worker/bench/step_watch.h"

namespace loupe::worker::bench {

// `precision`: "float32" or "bf16". Takes about two seconds of one core and 300 MB.
MachinePeak MeasurePeak(const std::string& precision, torch::Device device, const StepClock& clock);

}  // namespace loupe::worker::bench
