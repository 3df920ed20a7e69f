// What NVIDIA's management library (NVML) tells of the GPUs that a process computes on.
//
// Nothing is linked: the library comes with the driver, and is opened where there is one. Who has none hears of no GPU.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "loupe/v1/worker.pb.h"

namespace loupe::worker::agent {

struct GpuLibraries {
  // NVML, and the driver, which alone knows which GPU of the machine is cuda:N of this process (CUDA_VISIBLE_DEVICES).
  std::string nvml = "libnvidia-ml.so.1";
  std::string driver = "libcuda.so.1";
};

// Not thread-safe.
class GpuMonitor {
 public:
  // `devices` as WorkerAbilities has them ("cuda:0 NVIDIA H200"): those that are no GPU are passed over, and where none
  // is, nothing is opened.
  explicit GpuMonitor(const std::vector<std::string>& devices, const GpuLibraries& libraries = {});
  ~GpuMonitor();

  // As of now, of those GPUs that the library knows; takes well under a millisecond each.
  std::vector<v1::GpuTelemetry> Read() const;

 private:
  struct Libraries;
  struct Gpu;
  std::unique_ptr<Libraries> libraries_;
  std::vector<Gpu> gpus_;
};

}  // namespace loupe::worker::agent
