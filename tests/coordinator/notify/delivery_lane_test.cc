#include "coordinator/notify/delivery_lane.h"

#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/testing/fake_clock.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::notify {
namespace {

// Memory was short while it was put together, say.
TEST(DeliveryLaneTest, AFailureIsTriedAgain) {
  const testing::TempFolder folder;
  testing::FakeClock clock;
  const auto log = access::AuditLog::Open(folder / "webhooks.log");
  ASSERT_TRUE(log.ok()) << log.status();
  DeliveryDatabase database(folder / "deliveries.db");
  std::mutex mutex;
  std::vector<std::string> tried;
  DeliveryLane lane(clock, **log, database, {.name = "here"},
                    {.waits = {}, .most_waiting = 100'000, .deliver = [&](const Webhook&, const Notification& it) {
                       const std::lock_guard lock(mutex);
                       tried.push_back(it.id);
                       if (tried.size() == 1) throw std::runtime_error("no memory");
                       return TryResult{.delivered = true, .may_pass = false, .words = "answered 204"};
                     }});
  const auto add = [&](const std::string& id) {
    lane.Add({.webhook = "here", .notification = {.id = id, .time = clock.WallNow()}, .due = clock.WallNow()});
  };
  const auto tries = [&] {
    const std::lock_guard lock(mutex);
    return tried.size();
  };
  add("first");
  while (tries() < 2) {
    // Whoever adds wakes it.
    clock.Advance(absl::Minutes(1));
    add("later");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const std::lock_guard lock(mutex);
  EXPECT_EQ(tried[1], "first");
}

}  // namespace
}  // namespace loupe::coordinator::notify
