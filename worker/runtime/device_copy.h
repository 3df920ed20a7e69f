// What is made on the CPU for each step, on the device that computes it.
#pragma once

#include <torch/types.h>

namespace loupe::worker::runtime {

// made.to(device), and it does not wait for what a GPU still has to do: only a copy from pinned memory takes its place
// behind that. LibTorch keeps such memory until the copy has been made.
inline torch::Tensor CopyTo(torch::Device device, const torch::Tensor& made) {
  return device.is_cuda() ? made.pin_memory().to(device, /*non_blocking=*/true) : made.to(device);
}

}  // namespace loupe::worker::runtime
