#include "common/clock.h"

#include <time.h>

#include "absl/time/clock.h"

namespace loupe {
namespace {

class RealClock final : public Clock {
 public:
  absl::Duration MonotonicNow() const override {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return absl::DurationFromTimespec(now);
  }

  absl::Time WallNow() const override { return absl::Now(); }
};

}  // namespace

const Clock& SystemClock() {
  static const RealClock clock;
  return clock;
}

}  // namespace loupe
