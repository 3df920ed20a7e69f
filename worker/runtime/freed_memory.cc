#include "worker/runtime/freed_memory.h"

#include <cstdlib>
#include <limits>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace loupe::worker::runtime {

void KeepFreedMemory() {
#ifdef __GLIBC__
  // Blocks come from the heap, and its end stays where it was; larger ones, which would leave large holes, do not.
  // Further heaps, which threads would have, are unmapped whenever they are empty, whatever these limits say.
  constexpr int kLargestKept = 64 << 20;
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, kLargestKept);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

void ReturnFreedMemory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace loupe::worker::runtime
