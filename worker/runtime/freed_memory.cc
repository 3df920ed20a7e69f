#include "worker/runtime/freed_memory.h"

#include "gperftools/malloc_extension.h"

namespace loupe::worker::runtime {

void KeepFreedMemory() { MallocExtension::instance()->SetMemoryReleaseRate(0); }

void ReturnFreedMemory() { MallocExtension::instance()->ReleaseFreeMemory(); }

}  // namespace loupe::worker::runtime
