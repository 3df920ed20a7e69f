#include "coordinator/access/rate_limiter.h"

#include <algorithm>

namespace loupe::coordinator::access {
namespace {

constexpr size_t kMaxBuckets = 10000;

}  // namespace

absl::Duration RateLimiter::Take(const std::string& key, const RateLimit& limit, absl::Duration now) {
  if (limit.per_second <= 0) return absl::ZeroDuration();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (buckets_.size() >= kMaxBuckets && !buckets_.contains(key)) ForgetFullOnes(now);
  // Still full of clients that are being held back: one bucket for all further ones.
  const std::string& name = buckets_.size() >= kMaxBuckets && !buckets_.contains(key) ? buckets_.begin()->first : key;
  const double burst = std::max(1.0, limit.burst);
  auto [found, is_new] = buckets_.try_emplace(name, Bucket{burst, limit.per_second, burst, now});
  Bucket& bucket = found->second;
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(now - bucket.filled_at));
  bucket.calls = std::min(bucket.burst, bucket.calls + seconds * bucket.per_second);
  bucket.filled_at = now;
  if (bucket.calls >= 1) {
    bucket.calls -= 1;
    return absl::ZeroDuration();
  }
  return absl::Seconds((1 - bucket.calls) / bucket.per_second);
}

void RateLimiter::ForgetFullOnes(absl::Duration now) {
  // The whole map: not for every made-up name.
  if (now < looked_through_at_ + absl::Seconds(1)) return;
  looked_through_at_ = now;
  std::erase_if(buckets_, [&](const auto& entry) {
    const Bucket& bucket = entry.second;
    return bucket.calls + absl::ToDoubleSeconds(now - bucket.filled_at) * bucket.per_second >= bucket.burst;
  });
}

size_t RateLimiter::size() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return buckets_.size();
}

}  // namespace loupe::coordinator::access
