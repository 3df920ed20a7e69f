// Which device a process computes on.
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::worker::runtime {

// From "auto", "cpu", "cuda" or "cuda:N". INVALID_ARGUMENT for anything else; FAILED_PRECONDITION when there is no such
// GPU.
absl::StatusOr<torch::Device> ParseDevice(const std::string& name);

// ParseDevice, and this process made ready to compute there: `threads` of LibTorch's pool on the CPU (0: as many as it
// chose) and memory that is kept for the next step (freed_memory.h), and on a GPU only kernels that give the same bits
// each time, with float32 products in float32 (no TF32). For the whole process; call it before any tensor is computed.
absl::StatusOr<torch::Device> PrepareDevice(const std::string& name, int threads);

// "cpu" or "cuda:0 NVIDIA H200".
std::string DescribeDevice(torch::Device device);
// "cpu" or "cuda NVIDIA H200": which of several alike it is has no part in it.
std::string DeviceKind(torch::Device device);

// The 16-bit precisions ("bf16", "fp16": values of train.precision) for whose products the device has units of its own:
// in others they are slower than float32's. Of CPUs those with AVX512-BF16, which all with AMX have, too.
std::vector<std::string> HalfPrecisions(torch::Device device);

}  // namespace loupe::worker::runtime
