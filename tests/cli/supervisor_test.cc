#include "cli/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "common/clock.h"
#include "tests/cli/process.h"

namespace loupe::cli {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

TEST(RestartPolicyTest, WaitsDoubleAndThenItIsGivenUp) {
  RestartPolicy policy;
  std::vector<absl::Duration> waits;
  while (const std::optional<absl::Duration> wait = policy.OnDeath(absl::Seconds(1))) waits.push_back(*wait);
  EXPECT_EQ(waits, (std::vector<absl::Duration>{absl::Seconds(1), absl::Seconds(2), absl::Seconds(4), absl::Seconds(8),
                                                absl::Seconds(16)}));
}

TEST(RestartPolicyTest, SoundLifeStartsAfresh) {
  RestartPolicy policy;
  for (int i = 0; i < RestartPolicy::kMaxEarlyDeaths - 1; ++i) policy.OnDeath(absl::ZeroDuration());
  EXPECT_EQ(policy.OnDeath(RestartPolicy::kSoundLife), absl::ZeroDuration());
  EXPECT_EQ(policy.OnDeath(RestartPolicy::kSoundLife - absl::Nanoseconds(1)), absl::Seconds(1));
}

// Real children, a real clock: everything here ends by itself, nothing waits for a time to pass.
class SupervisorTest : public ::testing::Test {
 protected:
  ChildCommand Shell(const std::string& script) {
    return {.program = "/bin/sh", .arguments = {"-c", script}, .log_path = folder_.path() + "/log"};
  }
  TemporaryFolder folder_;
  std::vector<std::string> said_;
  Supervisor supervisor_{SystemClock(), [this](const std::string& line) { said_.push_back(line); }};
};

TEST_F(SupervisorTest, ReadinessFileIsAwaited) {
  ASSERT_TRUE(
      supervisor_.Add("server", Shell("echo 127.0.0.1:99 > " + folder_.path() + "/address; exec sleep 100"), true)
          .ok());
  const auto address =
      supervisor_.AwaitFile("server", folder_.path() + "/address", absl::Seconds(30), [] { return false; });
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(*address, "127.0.0.1:99");
  EXPECT_TRUE(supervisor_.IsRunning("server"));
  supervisor_.Stop(absl::Seconds(30), [] { return false; });
  EXPECT_FALSE(supervisor_.IsRunning("server"));
}

TEST_F(SupervisorTest, ChildThatEndsBeforeItIsReadyIsQuoted) {
  ASSERT_TRUE(supervisor_.Add("server", Shell("echo noise; echo the port 99 is in use >&2; exit 3"), true).ok());
  const auto address =
      supervisor_.AwaitFile("server", folder_.path() + "/address", absl::Seconds(30), [] { return false; });
  EXPECT_EQ(address.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(address.status().message()), HasSubstr("(exit code 3): the port 99 is in use"));
}

TEST_F(SupervisorTest, DeadChildIsNoticedAndStartedAgain) {
  // Dies once, then stays.
  const std::string mark = folder_.path() + "/mark";
  ASSERT_TRUE(
      supervisor_
          .Add("worker", Shell("if [ -e " + mark + " ]; then exec sleep 100; fi; : > " + mark + "; kill -9 $$"), false)
          .ok());
  bool was_down = false;
  const absl::Duration deadline = SystemClock().MonotonicNow() + absl::Seconds(30);
  while (SystemClock().MonotonicNow() < deadline) {
    ASSERT_TRUE(supervisor_.Tick().ok());
    was_down = was_down || !supervisor_.IsRunning("worker");
    if (was_down && supervisor_.IsRunning("worker")) break;
  }
  EXPECT_TRUE(was_down && supervisor_.IsRunning("worker"));
  EXPECT_THAT(said_, Contains(HasSubstr("worker ended (killed by signal 9)")));
}

TEST_F(SupervisorTest, StubbornChildIsKilledWhenHurried) {
  const std::string ready = folder_.path() + "/ready";
  ASSERT_TRUE(supervisor_.Add("first", Shell("exec sleep 100"), true).ok());
  ASSERT_TRUE(
      supervisor_.Add("stubborn", Shell("trap '' TERM; echo yes > " + ready + "; while :; do sleep 1; done"), false)
          .ok());
  ASSERT_TRUE(supervisor_.AwaitFile("stubborn", ready, absl::Seconds(30), [] { return false; }).ok());
  supervisor_.Stop(absl::Hours(1), [] { return true; });
  EXPECT_FALSE(supervisor_.IsRunning("stubborn"));
  EXPECT_THAT(said_, Contains(HasSubstr("stubborn did not stop in time and is killed")));
}

TEST_F(SupervisorTest, ProgramThatIsNotThereIsNamed) {
  const absl::Status status =
      supervisor_.Add("ghost", {.program = "/no/such/program", .log_path = folder_.path() + "/log"}, true);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'/no/such/program'"));
}

TEST(LastLogLineTest, IsTheLastLineThatSaysSomething) {
  const TemporaryFolder folder;
  EXPECT_EQ(LastLogLine(folder.Write("a", "one\ntwo\n\n  \n")), "two");
  EXPECT_EQ(LastLogLine(folder.Write("b", std::string(100000, 'x') + "\nlast")), "last");
  EXPECT_EQ(LastLogLine(folder.path() + "/none"), "");
}

}  // namespace
}  // namespace loupe::cli
