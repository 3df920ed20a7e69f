#include "worker/runtime/numerics.h"

#include "fmt/format.h"
#include "worker/kernels/vector.h"

namespace loupe::worker::runtime {

std::string NumericsOf(torch::Device device) {
  if (!device.is_cpu())
    return fmt::format("{}, {}", kGpuNumerics, c10::DeviceTypeName(device.type(), /*lower_case=*/true));
  const int width = kernels::Width();
  return fmt::format("{}, {}", kCpuNumerics, width == 16 ? "AVX-512" : width == 8 ? "AVX2" : "no kernels");
}

}  // namespace loupe::worker::runtime
