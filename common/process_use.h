// What this process has used, as the kernel counts it. Thread-safe.
#pragma once

#include <cstdint>

namespace loupe {

// Of all threads together: what something costs, also on a machine that others use.
double ProcessCpuSeconds();

// Resident memory; 0 where /proc is not to be read.
int64_t ResidentBytes();

}  // namespace loupe
