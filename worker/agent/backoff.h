// How long to wait before trying again.
#pragma once

#include "absl/time/time.h"
#include "common/random_source.h"

namespace loupe::worker::agent {

struct BackoffOptions {
  // The first wait's upper bound; doubles with each failure up to `longest`.
  absl::Duration first = absl::Milliseconds(200);
  absl::Duration longest = absl::Seconds(15);
};

// Exponential with jitter: the n-th wait is uniform in [bound/2, bound] with bound = min(longest, first·2ⁿ), so that
// a thousand workers do not come back to a restarted coordinator in the same moment. Not thread-safe.
class Backoff {
 public:
  // `random` must outlive it.
  Backoff(const BackoffOptions& options, RandomSource& random) : options_(options), random_(random) {}

  // The wait after one more failure.
  absl::Duration Next();
  // After a success.
  void Reset() { failures_ = 0; }
  int failures() const { return failures_; }

 private:
  const BackoffOptions options_;
  RandomSource& random_;
  int failures_ = 0;
};

}  // namespace loupe::worker::agent
