// Time in which the coordinator served: what leases, back-offs, standstills and set-asides run on.
//
// Law: it goes with the machine's clock as long as the engine's turns follow one another in time. Of a turn that comes
// late, because the process was stopped, the machine suspended, or a disk or a job slow, only `most` counts: in the
// rest nobody could be heard, so nobody is charged for it.
#pragma once

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "common/clock.h"

namespace loupe::coordinator::engine {

// Not thread-safe. Whoever drives it begins a turn at least every most/2, also when there is nothing to do: that is how
// it knows that it served while it waited.
class ServingClock {
 public:
  ServingClock(const Clock& clock, absl::Duration most)
      : clock_(clock), most_(most), turn_(clock.MonotonicNow()), now_(turn_) {}

  // Begins a turn. How much of the time since the last one does not count.
  absl::Duration BeginTurn() {
    const absl::Duration now = clock_.MonotonicNow();
    const absl::Duration passed = now - std::exchange(turn_, now);
    now_ += std::min(passed, most_);
    return std::max(passed - most_, absl::ZeroDuration());
  }

  // Of this turn.
  absl::Duration now() const { return now_; }
  // By when, on the machine's clock, a turn is due for the sake of a deadline on this one.
  absl::Duration NextTurn(absl::Duration deadline) const {
    return deadline == absl::InfiniteDuration() ? deadline : turn_ + std::min(deadline - now_, most_ / 2);
  }

 private:
  const Clock& clock_;
  const absl::Duration most_;
  // On the machine's clock.
  absl::Duration turn_;
  absl::Duration now_;
};

}  // namespace loupe::coordinator::engine
