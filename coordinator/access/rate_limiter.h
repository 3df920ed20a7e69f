// How often one client may call: a token bucket per client.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "absl/time/time.h"

namespace loupe::coordinator::access {

// A bucket holds up to `burst` calls and is refilled at `per_second`. per_second 0: no limit.
struct RateLimit {
  double per_second = 0;
  double burst = 0;
};

// Thread-safe. Memory is bounded whatever names callers make up: buckets that are full again are forgotten.
class RateLimiter {
 public:
  // Takes one call from `key`'s bucket at time `now` (monotonic). Zero: granted. Otherwise nothing is taken, and the
  // bucket holds a call again after the returned wait.
  absl::Duration Take(const std::string& key, const RateLimit& limit, absl::Duration now);

  // Buckets that are kept: for tests.
  size_t size() const;

 private:
  struct Bucket {
    double calls = 0;
    double per_second = 0;
    double burst = 0;
    absl::Duration filled_at;
  };
  void ForgetFullOnes(absl::Duration now);

  mutable std::mutex mutex_;
  std::map<std::string, Bucket> buckets_;
  absl::Duration looked_through_at_ = -absl::InfiniteDuration();
};

}  // namespace loupe::coordinator::access
