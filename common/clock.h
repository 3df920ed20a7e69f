// Time, injected, so that leases and deadlines can be tested on both sides without sleeping.
#pragma once

#include "absl/time/time.h"

namespace loupe {

// Thread-safe. Leases and timeouts use MonotonicNow only; WallNow is for what people read (create_time and the like)
// and is never compared with another machine's.
class Clock {
 public:
  virtual ~Clock() = default;

  // Time since an arbitrary start of this process's clock; never goes back, counts suspended time (CLOCK_BOOTTIME).
  virtual absl::Duration MonotonicNow() const = 0;

  // Civil time; may jump either way.
  virtual absl::Time WallNow() const = 0;
};

// The machine's clock; lives for the whole process.
const Clock& SystemClock();

}  // namespace loupe
