// The threads that watch over who is in: a failure in one turn (memory that was short, a library's exception) is logged
// and does not end them.
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "coordinator/access/access_watch.h"
#include "coordinator/access/open_calls.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::access {
namespace {

const OpenCalls::Options kRoomForAll = {.people = {9, 9, 9, 99}, .workers = {9, 9, 9, 99}, .all = {9, 9, 9, 99}};

TEST(AccessWatchTest, AFailureDoesNotEndIt) {
  const testing::TempFolder folder;
  testing::FakeClock clock;
  const auto access = AccessControl::Open(folder.path(), clock);
  ASSERT_TRUE(access.ok()) << access.status();
  OpenCalls calls(kRoomForAll, clock);
  std::atomic<int> turns = 0;
  const AccessWatch watch(**access, calls, [&] {
    if (++turns == 1) throw std::runtime_error("no certificate today");
  });
  while (turns < 3) std::this_thread::yield();
}

TEST(OpenCallsTest, AFailureDoesNotEndTheWatch) {
  testing::FakeClock clock;
  OpenCalls calls(kRoomForAll, clock);
  std::atomic<bool> failed = false, cancelled = false;
  const auto failing = calls.Open({}, "a", CallKind::kUnary, [&] {
    failed = true;
    throw std::runtime_error("gRPC is out of memory");
  });
  ASSERT_TRUE(failing.ok()) << failing.status();
  (*failing)->AwaitClient();
  clock.Advance(kClientPatience);
  while (!failed) std::this_thread::yield();
  const auto later = calls.Open({}, "b", CallKind::kUnary, [&] { cancelled = true; });
  ASSERT_TRUE(later.ok()) << later.status();
  (*later)->AwaitClient();
  clock.Advance(kClientPatience);
  while (!cancelled) std::this_thread::yield();
}

}  // namespace
}  // namespace loupe::coordinator::access
