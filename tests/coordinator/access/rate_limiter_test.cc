#include "coordinator/access/rate_limiter.h"

#include <gtest/gtest.h>

#include "fmt/format.h"

namespace loupe::coordinator::access {
namespace {

constexpr absl::Duration kGranted = absl::ZeroDuration();

TEST(RateLimiterTest, ABurstIsGrantedAndThenOneCallPerRefill) {
  RateLimiter limiter;
  const RateLimit limit{.per_second = 10, .burst = 3};
  absl::Duration now = absl::Seconds(5);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limiter.Take("a", limit, now), kGranted);
  EXPECT_EQ(limiter.Take("a", limit, now), absl::Milliseconds(100));
  now += absl::Milliseconds(99);
  EXPECT_GT(limiter.Take("a", limit, now), kGranted);
  // A refused call takes nothing: the wait does not start again. 2 ms: the bucket counts in floating point.
  now += absl::Milliseconds(2);
  EXPECT_EQ(limiter.Take("a", limit, now), kGranted);
  EXPECT_GT(limiter.Take("a", limit, now), kGranted);
}

TEST(RateLimiterTest, OneClientDoesNotUseUpAnothersCalls) {
  RateLimiter limiter;
  const RateLimit limit{.per_second = 1, .burst = 1};
  EXPECT_EQ(limiter.Take("a", limit, absl::ZeroDuration()), kGranted);
  EXPECT_GT(limiter.Take("a", limit, absl::ZeroDuration()), kGranted);
  EXPECT_EQ(limiter.Take("b", limit, absl::ZeroDuration()), kGranted);
}

TEST(RateLimiterTest, ZeroPerSecondIsNoLimit) {
  RateLimiter limiter;
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(limiter.Take("a", {.per_second = 0, .burst = 1}, absl::ZeroDuration()), kGranted);
  EXPECT_EQ(limiter.size(), 0u);
}

TEST(RateLimiterTest, ARestNeverFillsABucketBeyondItsBurst) {
  RateLimiter limiter;
  const RateLimit limit{.per_second = 100, .burst = 2};
  EXPECT_EQ(limiter.Take("a", limit, absl::ZeroDuration()), kGranted);
  const absl::Duration later = absl::Hours(10);
  EXPECT_EQ(limiter.Take("a", limit, later), kGranted);
  EXPECT_EQ(limiter.Take("a", limit, later), kGranted);
  EXPECT_GT(limiter.Take("a", limit, later), kGranted);
}

TEST(RateLimiterTest, MadeUpNamesDoNotFillTheMemory) {
  RateLimiter limiter;
  const RateLimit limit{.per_second = 1, .burst = 1};
  for (int i = 0; i < 30000; ++i) limiter.Take(fmt::format("{}", i), limit, absl::ZeroDuration());
  EXPECT_LE(limiter.size(), 10000u);
  // When the buckets are full again they are forgotten, and new names are served.
  EXPECT_EQ(limiter.Take("new", limit, absl::Seconds(2)), kGranted);
  EXPECT_EQ(limiter.size(), 1u);
}

}  // namespace
}  // namespace loupe::coordinator::access
