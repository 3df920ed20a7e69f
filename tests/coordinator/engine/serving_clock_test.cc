#include "coordinator/engine/serving_clock.h"

#include <gtest/gtest.h>

#include "tests/testing/fake_clock.h"

namespace loupe::coordinator::engine {
namespace {

constexpr absl::Duration kMost = absl::Seconds(1);
constexpr absl::Duration kTick = absl::Nanoseconds(1);

class ServingClockTest : public ::testing::Test {
 protected:
  // What the clock goes on by in a turn that comes after `passed`.
  absl::Duration Turn(absl::Duration passed) {
    const absl::Duration before = serving_.now();
    clock_.Advance(passed);
    lost_ = serving_.BeginTurn();
    return serving_.now() - before;
  }

  testing::FakeClock clock_;
  ServingClock serving_{clock_, kMost};
  absl::Duration lost_;
};

TEST_F(ServingClockTest, GoesWithTheMachinesWhileTurnsAreInTime) {
  for (const absl::Duration passed : {absl::ZeroDuration(), kTick, kMost - kTick, kMost}) {
    EXPECT_EQ(Turn(passed), passed);
    EXPECT_EQ(lost_, absl::ZeroDuration());
  }
}

TEST_F(ServingClockTest, OfALateTurnOnlyItsShareCounts) {
  EXPECT_EQ(Turn(kMost + kTick), kMost);
  EXPECT_EQ(lost_, kTick);
  EXPECT_EQ(Turn(absl::Hours(24)), kMost);
  EXPECT_EQ(lost_, absl::Hours(24) - kMost);
  EXPECT_EQ(Turn(kTick), kTick);
}

TEST_F(ServingClockTest, TurnsAreDueTwiceAsOftenAsTheyMustBe) {
  const absl::Duration now = clock_.MonotonicNow();
  EXPECT_EQ(serving_.NextTurn(serving_.now() + absl::Hours(1)), now + kMost / 2);
  EXPECT_EQ(serving_.NextTurn(serving_.now() + kTick), now + kTick);
  EXPECT_EQ(serving_.NextTurn(absl::InfiniteDuration()), absl::InfiniteDuration()) << "nothing runs out";
}

}  // namespace
}  // namespace loupe::coordinator::engine
