// What becomes of memory that tensors on the CPU no longer need.
//
// A step allocates and frees the same hundred megabytes again and again. Left alone, glibc gives much of it back to the
// kernel each time, which has to hand out zeroed pages anew (docs/trial.md has what that costs).
#pragma once

namespace loupe::worker::runtime {

// From now on this process keeps what it frees, up to 64 MiB a block, for what it allocates next, and has one heap for
// all threads. Without effect where the allocator is not glibc's. Call it before other threads allocate.
void KeepFreedMemory();

// Gives back what is free now: when nothing is left to compute for a while.
void ReturnFreedMemory();

}  // namespace loupe::worker::runtime
