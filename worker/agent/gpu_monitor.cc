#include "worker/agent/gpu_monitor.h"

#include <dlfcn.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "common/logging.h"

namespace loupe::worker::agent {
namespace {

// The part of both libraries' interfaces that is used, as NVIDIA documents it (NVML API Reference Guide; CUDA Driver
// API). It has not changed since CUDA 3.
constexpr int kSuccess = 0;
using NvmlDevice = void*;

constexpr int kBusIdBytes = 32;  // NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE

// A function of a shared library; null where it has none of that name.
template <typename Function>
void Find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(::dlsym(library, name));
}

// N of "cuda:N …"; -1 for a device that is no GPU.
int OrdinalOf(const std::string& device) {
  int ordinal = 0;
  constexpr std::string_view kCuda = "cuda:";
  const std::string number = device.substr(0, device.find(' '));
  return number.starts_with(kCuda) && absl::SimpleAtoi(number.substr(kCuda.size()), &ordinal) ? ordinal : -1;
}

}  // namespace

struct GpuMonitor::Gpu {
  std::string device;
  NvmlDevice handle = nullptr;
};

struct GpuMonitor::Libraries {
  struct Memory {
    unsigned long long total, free, used;  // bytes
  };
  struct Utilization {
    unsigned int gpu, memory;  // per cent of the last sample period
  };
  void* nvml = nullptr;
  void* driver = nullptr;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*handle_by_bus_id)(const char*, NvmlDevice*) = nullptr;
  int (*memory)(NvmlDevice, Memory*) = nullptr;
  int (*utilization)(NvmlDevice, Utilization*) = nullptr;
  int (*driver_init)(unsigned int) = nullptr;
  int (*device_get)(int*, int) = nullptr;
  int (*bus_id)(char*, int, int) = nullptr;
  bool ready = false;

  explicit Libraries(const GpuLibraries& names)
      : nvml(::dlopen(names.nvml.c_str(), RTLD_NOW | RTLD_LOCAL)),
        driver(::dlopen(names.driver.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (nvml == nullptr || driver == nullptr) return;
    Find(nvml, "nvmlInit_v2", init);
    Find(nvml, "nvmlShutdown", shutdown);
    Find(nvml, "nvmlDeviceGetHandleByPciBusId_v2", handle_by_bus_id);
    Find(nvml, "nvmlDeviceGetMemoryInfo", memory);
    Find(nvml, "nvmlDeviceGetUtilizationRates", utilization);
    Find(driver, "cuInit", driver_init);
    Find(driver, "cuDeviceGet", device_get);
    Find(driver, "cuDeviceGetPCIBusId", bus_id);
    ready = init != nullptr && shutdown != nullptr && handle_by_bus_id != nullptr && memory != nullptr &&
            driver_init != nullptr && device_get != nullptr && bus_id != nullptr && driver_init(0) == kSuccess &&
            init() == kSuccess;
  }
  ~Libraries() {
    if (ready) shutdown();
    if (nvml != nullptr) ::dlclose(nvml);
    if (driver != nullptr) ::dlclose(driver);
  }
  Libraries(const Libraries&) = delete;
  Libraries& operator=(const Libraries&) = delete;

  NvmlDevice HandleOf(int ordinal) const {
    int device = 0;
    char bus[kBusIdBytes] = {};
    NvmlDevice handle = nullptr;
    const bool found = device_get(&device, ordinal) == kSuccess && bus_id(bus, kBusIdBytes, device) == kSuccess &&
                       handle_by_bus_id(bus, &handle) == kSuccess;
    return found ? handle : nullptr;
  }
};

GpuMonitor::GpuMonitor(const std::vector<std::string>& devices, const GpuLibraries& libraries) {
  for (const std::string& device : devices) {
    const int ordinal = OrdinalOf(device);
    if (ordinal < 0) continue;
    if (libraries_ == nullptr) libraries_ = std::make_unique<Libraries>(libraries);
    NvmlDevice handle = libraries_->ready ? libraries_->HandleOf(ordinal) : nullptr;
    if (handle == nullptr) {
      LogInfo("{}: its memory and utilisation are not reported, as {} does not tell of it", device, libraries.nvml);
    } else {
      gpus_.push_back({device, handle});
    }
  }
}

GpuMonitor::~GpuMonitor() = default;

std::vector<v1::GpuTelemetry> GpuMonitor::Read() const {
  std::vector<v1::GpuTelemetry> all;
  for (const Gpu& gpu : gpus_) {
    Libraries::Memory memory{};
    if (libraries_->memory(gpu.handle, &memory) != kSuccess) continue;
    v1::GpuTelemetry& one = all.emplace_back();
    one.set_device(gpu.device);
    one.set_memory_used_bytes(static_cast<int64_t>(memory.used));
    one.set_memory_total_bytes(static_cast<int64_t>(memory.total));
    Libraries::Utilization used{};
    if (libraries_->utilization != nullptr && libraries_->utilization(gpu.handle, &used) == kSuccess)
      one.set_utilization(used.gpu / 100.0);
  }
  return all;
}

}  // namespace loupe::worker::agent
