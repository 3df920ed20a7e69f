#include "worker/executor/device.h"

#include <torch/cuda.h>
#ifdef LOUPE_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

#include "absl/strings/numbers.h"
#include "fmt/format.h"

namespace loupe::worker {

absl::StatusOr<torch::Device> ParseDevice(const std::string& name) {
  if (name == "cpu") return torch::Device(torch::kCPU);
  if (name == "auto") {
    return torch::cuda::is_available() ? torch::Device(torch::kCUDA, 0) : torch::Device(torch::kCPU);
  }
  int index = 0;
  const bool numbered = name.starts_with("cuda:") && absl::SimpleAtoi(name.substr(5), &index) && index >= 0;
  if (name != "cuda" && !numbered) {
    return absl::InvalidArgumentError(fmt::format("device '{}': expected auto, cpu, cuda or cuda:N", name));
  }
  const int count = static_cast<int>(torch::cuda::device_count());
  if (index >= count) {
    return absl::FailedPreconditionError(
        fmt::format("device '{}': this machine (or this build of LibTorch) has {} GPUs that can be used", name, count));
  }
  return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(index));
}

std::string DescribeDevice(torch::Device device) {
#ifdef LOUPE_WITH_CUDA
  if (device.is_cuda()) return fmt::format("{} {}", device.str(), at::cuda::getDeviceProperties(device.index())->name);
#endif
  return device.str();
}

}  // namespace loupe::worker
