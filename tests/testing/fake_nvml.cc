// A shared library in place of NVIDIA's management library and of its driver: two GPUs, of which the process may use
// the second one alone, as cuda:0.
#include <cstdio>
#include <cstring>

namespace {

constexpr char kBusId[] = "0000:1B:00.0";
int second_gpu = 0;

}  // namespace

extern "C" {

int cuInit(unsigned int) { return 0; }

int cuDeviceGet(int* device, int ordinal) {
  *device = 40 + ordinal;  // a handle, and no ordinal
  return ordinal == 0 ? 0 : 101;
}

int cuDeviceGetPCIBusId(char* id, int size, int device) {
  if (device != 40) return 101;
  std::snprintf(id, static_cast<size_t>(size), "%s", kBusId);
  return 0;
}

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }

int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** handle) {
  *handle = &second_gpu;
  return std::strcmp(id, kBusId) == 0 ? 0 : 6;
}

int nvmlDeviceGetMemoryInfo(void* handle, unsigned long long memory[3]) {
  if (handle != &second_gpu) return 2;
  memory[0] = 80'000'000'000;
  memory[1] = 78'000'000'000;
  memory[2] = 2'000'000'000;
  return 0;
}

int nvmlDeviceGetUtilizationRates(void* handle, unsigned int rates[2]) {
  if (handle != &second_gpu) return 2;
  rates[0] = 37;
  rates[1] = 12;
  return 0;
}
}
