#include "worker/kernels/vector.h"

#include <cstdlib>
#include <string_view>

namespace loupe::worker::kernels {

int Width() {
  static const int width = [] {
#if defined(__x86_64__)
    const char* const bound = std::getenv("ATEN_CPU_CAPABILITY");
    const std::string_view most = bound == nullptr ? "" : bound;
    if (most == "default") return 0;
    if (most != "avx2" && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
      return 16;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
#endif
    return 0;
  }();
  return width;
}

}  // namespace loupe::worker::kernels
