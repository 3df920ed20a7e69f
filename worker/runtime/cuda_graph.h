// Recordings on an NVIDIA GPU: CUDA graphs.
#pragma once

#include <torch/types.h>

#include <memory>

#include "worker/runtime/recorded_call.h"

namespace loupe::worker::runtime {

// Null for a device that is no GPU, and where LibTorch has no CUDA. All recordings share their intermediate memory, so
// they are repeated one at a time and nothing of one is read after another has run but what it gave back.
std::shared_ptr<Recorder> MakeCudaGraphs(torch::Device device);

}  // namespace loupe::worker::runtime
