#include "coordinator/access/open_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "common/error_details.h"
#include "coordinator/api/request_limits.h"
#include "coordinator/api/work_pool.h"
#include "loupe/v1/sweep.pb.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/small_spec.h"

namespace loupe::coordinator::api {
namespace {

class OpenCallsTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<access::OpenCall>> Open(const std::string& name,
                                                         access::CallKind kind = access::CallKind::kUnary) {
    return calls_.Open(access::Caller{.name = name, .role = access::Role::kViewer}, name, kind,
                       [this, name] { cancelled_.push_back(name); });
  }

  testing::FakeClock clock_;
  std::vector<std::string> cancelled_;
  access::OpenCalls calls_{{.people = {.unary = 2, .streams = 1, .held = 1, .unread_bytes = 100},
                            .workers = {.unary = 3, .streams = 3, .held = 3, .unread_bytes = 1000},
                            .all = {.unary = 3, .streams = 3, .held = 3, .unread_bytes = 150}},
                           clock_};
};

TEST_F(OpenCallsTest, AClientHasItsShareAndNoMore) {
  auto first = Open("a");
  const auto second = Open("a");
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::Status third = Open("a").status();
  EXPECT_TRUE(absl::IsResourceExhausted(third)) << third;
  EXPECT_EQ(ReasonOf(third), kReasonRateLimited);
  EXPECT_GT(RetryAfterOf(third), absl::ZeroDuration());
  // Of another kind, and another's.
  EXPECT_TRUE(Open("a", access::CallKind::kStream).ok());
  const auto other = Open("b");
  EXPECT_TRUE(other.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Open("c").status())) << "three of all together";
  first->reset();
  EXPECT_TRUE(Open("c").ok());
}

TEST_F(OpenCallsTest, UnreadBytesAreCountedUntilTheCallEnds) {
  auto first = Open("a");
  const auto second = Open("a");
  const auto other = Open("b");
  EXPECT_TRUE((*first)->Reserve(5000).ok()) << "one answer alone is never too much";
  EXPECT_TRUE(absl::IsResourceExhausted((*second)->Reserve(1)));
  EXPECT_TRUE(absl::IsResourceExhausted((*other)->Reserve(1))) << "of all together";
  first->reset();
  EXPECT_TRUE((*second)->Reserve(100).ok());
  EXPECT_TRUE((*other)->Reserve(50).ok());
  EXPECT_FALSE((*other)->Reserve(1).ok());
}

TEST_F(OpenCallsTest, WhoKeepsACallWaitingIsCutOff) {
  const auto waits = Open("a");
  const auto moves = Open("b");
  (*waits)->AwaitClient();
  (*moves)->AwaitClient();
  clock_.Advance(access::kClientPatience - absl::Nanoseconds(1));
  calls_.CancelOverdue();
  EXPECT_TRUE(cancelled_.empty());
  (*moves)->ClientMoved();
  clock_.Advance(absl::Nanoseconds(1));
  calls_.CancelOverdue();
  calls_.CancelOverdue();
  EXPECT_THAT(cancelled_, ::testing::ElementsAre("a"));
  EXPECT_TRUE((*waits)->cancelled());
  EXPECT_FALSE((*moves)->cancelled());
}

TEST_F(OpenCallsTest, CallsOfARevokedTokenAreCutOff) {
  const auto gone = Open("a");
  const auto stays = Open("b");
  calls_.CancelIf([](const access::Caller& caller) { return caller.name == "a"; });
  EXPECT_THAT(cancelled_, ::testing::ElementsAre("a"));
  EXPECT_FALSE((*stays)->cancelled());
}

TEST(WorkPoolTest, ClientsTakeTurns) {
  std::promise<void> begin;
  std::promise<void> began;
  std::promise<void> last;
  std::mutex mutex;
  std::string order;
  WorkPool pool(1, 100);
  pool.Submit("a", [&] {
    began.set_value();
    begin.get_future().wait();
  });
  began.get_future().wait();
  const auto note = [&](char who) {
    const std::lock_guard<std::mutex> lock(mutex);
    order += who;
    if (order.size() == 5) last.set_value();
  };
  for (int i = 0; i < 4; ++i) pool.Submit("a", [&] { note('a'); });
  pool.Submit("b", [&] { note('b'); });
  begin.set_value();
  last.get_future().wait();
  EXPECT_EQ(order, "abaaa");
}

TEST(WorkPoolTest, WhatIsTooMuchIsRefused) {
  std::promise<void> begin;
  std::promise<void> began;
  std::atomic<int> ran = 0;
  WorkPool pool(1, 2);
  pool.Submit("a", [&] {
    began.set_value();
    begin.get_future().wait();
  });
  began.get_future().wait();
  EXPECT_TRUE(pool.Submit("a", [&] { ++ran; }));
  EXPECT_TRUE(pool.Submit("a", [&] { ++ran; }));
  EXPECT_FALSE(pool.Submit("a", [&] { ++ran; }));
  EXPECT_TRUE(pool.Submit("b", [&] { ++ran; }));
  begin.set_value();
}

TEST(RequestLimitsTest, LongTextsAndListsAreNamed) {
  v1::CreateSweepRequest request;
  *request.mutable_spec() = testing::SmallSpec(2, 1);
  EXPECT_TRUE(CheckLimits(request).ok());
  request.set_sweep_id(std::string(1025, 's'));
  for (int i = 0; i < 10001; ++i) request.mutable_spec()->mutable_factors(0)->add_levels("x");
  const absl::Status status = CheckLimits(request);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  const std::vector<FieldViolation> violations = FieldViolationsOf(status);
  ASSERT_EQ(violations.size(), 2u);
  EXPECT_EQ(violations[0].field, "sweep_id");
  EXPECT_EQ(violations[0].description, "1025 bytes, at most 1024 are allowed");
  EXPECT_EQ(violations[1].field, "spec.factors[0].levels");
}

// Every text and list of every request has a limit: a new field gets one without a line of code.
TEST(RequestLimitsTest, NoFieldIsWithoutALimit) {
  v1::RetryTrialsRequest request;
  (*request.mutable_cell())["scale"] = std::string(5000, 'x');
  EXPECT_FALSE(CheckLimits(request).ok());
  v1::ListSweepsRequest list;
  list.set_page_token(std::string(5000, 'x'));
  EXPECT_FALSE(CheckLimits(list).ok());
}

}  // namespace
}  // namespace loupe::coordinator::api
