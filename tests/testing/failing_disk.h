// A disk that fails under a real process: the process is started with this library in LD_PRELOAD, and a file that both
// map says which of its writes or syncs fails, and how.
#pragma once

#include <atomic>
#include <cstdint>

namespace loupe::testing {

// At the start of the file that LOUPE_FAILING_DISK names.
struct DiskOrders {
  // Operations on files below LOUPE_FAILING_FOLDER, since the start.
  std::atomic<int64_t> operations;
  // The n-th operation from now on fails and all after it, `failures` of them; 0 means none.
  std::atomic<int64_t> fail_in;
  std::atomic<int64_t> failures;
  // EIO or ENOSPC.
  std::atomic<int32_t> error;
};
static_assert(std::atomic<int64_t>::is_always_lock_free && std::atomic<int32_t>::is_always_lock_free);

}  // namespace loupe::testing
