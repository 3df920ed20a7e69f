// Time that stands still until a test moves it.
#pragma once

#include <atomic>

#include "common/clock.h"

namespace loupe::testing {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  absl::Duration MonotonicNow() const override { return absl::Nanoseconds(monotonic_ns_.load()); }
  absl::Time WallNow() const override { return absl::FromUnixNanos(wall_ns_.load()); }

  void Advance(absl::Duration by) {
    monotonic_ns_ += absl::ToInt64Nanoseconds(by);
    wall_ns_ += absl::ToInt64Nanoseconds(by);
  }
  // What a person or NTP does to the civil clock.
  void JumpWall(absl::Duration by) { wall_ns_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> monotonic_ns_{1'000'000'000'000};
  std::atomic<int64_t> wall_ns_{1'800'000'000'000'000'000};
};

}  // namespace loupe::testing
