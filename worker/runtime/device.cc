#include "worker/runtime/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/cuda.h>
#ifdef LOUPE_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

#include <cstdlib>

#include "absl/strings/numbers.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/runtime/freed_memory.h"

namespace loupe::worker::runtime {
namespace {

// Some CUDA kernels add in the order in which their threads finish, and cuDNN would choose among its own by a
// stopwatch.
void ComputeReproducibly() {
  // cuBLAS reads it when its first handle is made: two buffers of 4 MB, which each stream keeps to itself.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::Context& context = at::globalContext();
  context.setDeterministicAlgorithms(true, /*warn_only=*/false);
  context.setDeterministicFillUninitializedMemory(false);
  context.setDeterministicCuDNN(true);
  context.setBenchmarkCuDNN(false);
  context.setAllowTF32CuBLAS(false);
  context.setAllowTF32CuDNN(false);
}

}  // namespace

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
  const int count = static_cast<uint8_t>(torch::cuda::device_count());
  if (index >= count) {
    return absl::FailedPreconditionError(
        fmt::format("device '{}': this machine (or this build of LibTorch) has {} GPUs that can be used", name, count));
  }
  return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(index));
}

absl::StatusOr<torch::Device> PrepareDevice(const std::string& name, int threads) {
  LOUPE_ASSIGN_OR_RETURN(const torch::Device device, ParseDevice(name));
  if (threads > 0) at::set_num_threads(threads);
  if (device.is_cpu()) KeepFreedMemory();
  if (device.is_cuda()) ComputeReproducibly();
  return device;
}

std::string DescribeDevice(torch::Device device) {
#ifdef LOUPE_WITH_CUDA
  if (device.is_cuda()) return fmt::format("{} {}", device.str(), at::cuda::getDeviceProperties(device.index())->name);
#endif
  return device.str();
}

std::string DeviceKind(torch::Device device) {
#ifdef LOUPE_WITH_CUDA
  if (device.is_cuda()) return fmt::format("cuda {}", at::cuda::getDeviceProperties(device.index())->name);
#endif
  return device.str();
}

std::vector<std::string> HalfPrecisions(torch::Device device) {
#ifdef LOUPE_WITH_CUDA
  if (device.is_cuda()) {
    const int generation = at::cuda::getDeviceProperties(device.index())->major;
    if (generation >= 8) return {"bf16", "fp16"};
    return generation == 7 ? std::vector<std::string>{"fp16"} : std::vector<std::string>{};
  }
#endif
#if defined(__x86_64__)
  if (device.is_cpu() && __builtin_cpu_supports("avx512bf16")) return {"bf16"};
#endif
  return {};
}

}  // namespace loupe::worker::runtime
