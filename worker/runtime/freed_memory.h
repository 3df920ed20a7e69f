// What becomes of memory that is no longer needed.
//
// A step allocates and frees the same hundred megabytes again and again, in blocks aligned as tensors are. Whatever
// links this library allocates by tcmalloc, which keeps spans of pages by size: glibc cuts and joins neighbouring
// blocks each time, and gives much of them back to the kernel, which has to hand out zeroed pages anew (docs/trial.md
// has what that costs).
#pragma once

namespace loupe::worker::runtime {

// From now on this process keeps what it frees for what it allocates next.
void KeepFreedMemory();

// Gives back to the system what is free now: when nothing is left to compute for a while.
void ReturnFreedMemory();

}  // namespace loupe::worker::runtime
