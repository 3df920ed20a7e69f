// What every call goes through, from many threads at once: with engine_thread_test.cc what ThreadSanitizer looks at,
// since gRPC was not built for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "common/atomic_file.h"
#include "coordinator/access/access.h"
#include "coordinator/access/audit_log.h"
#include "coordinator/access/rate_limiter.h"
#include "coordinator/engine/plan_cache.h"
#include "coordinator/store/artifact_folder.h"
#include "fmt/format.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/small_spec.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::api {
namespace {

constexpr int kThreads = 4;

void FromManyThreads(const std::function<void(int thread)>& run) {
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) threads.emplace_back([&run, i] { run(i); });
  for (std::thread& thread : threads) thread.join();
}

TEST(SharedPartsTest, ATokenStaysValidWhileOthersComeAndGo) {
  const testing::TempFolder folder;
  const testing::FakeClock clock;
  const auto access = access::AccessControl::Open(folder.path(), clock);
  ASSERT_TRUE(access.ok()) << access.status();
  const std::string token =
      *access::AccessControl::AddToken(folder.path(), "stays", access::Role::kWorker, absl::InfiniteDuration(), clock);
  FromManyThreads([&](int thread) {
    for (int i = 0; i < 20; ++i) {
      if (thread == 0) {
        EXPECT_TRUE(access::AccessControl::AddToken(folder.path(), "other", access::Role::kViewer,
                                                    absl::InfiniteDuration(), clock)
                        .ok());
        EXPECT_TRUE(access::AccessControl::RemoveToken(folder.path(), "other").ok());
      }
      EXPECT_TRUE((*access)->Authenticate("Bearer " + token).ok());
    }
  });
}

TEST(SharedPartsTest, ABucketGrantsItsBurstAndNotACallMore) {
  constexpr int kBurst = 100;
  access::RateLimiter limiter;
  std::atomic<int> granted{0};
  FromManyThreads([&](int) {
    for (int i = 0; i < kBurst; ++i) {
      if (limiter.Take("client", {.per_second = 1, .burst = kBurst}, absl::Seconds(1)) == absl::ZeroDuration())
        ++granted;
    }
  });
  EXPECT_EQ(granted, kBurst);
}

TEST(SharedPartsTest, EachSweepHasItsOwnPlanWhoeverAsksFirst) {
  // More than the cache keeps, so that plans are also thrown out and made again.
  constexpr int kSweeps = 70;
  engine::PlanCache plans;
  FromManyThreads([&](int thread) {
    for (int i = 0; i < kSweeps; ++i) {
      const int scales = 1 + (i + thread) % kSweeps;
      scheduler::SweepRecord sweep;
      sweep.uid = fmt::format("uid-{}", scales);
      sweep.spec = testing::SmallSpec(scales, 1).SerializeAsString();
      sweep.cells = int64_t{3} * scales;
      sweep.replicates = 1;
      const auto plan = plans.Get(sweep);
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_EQ((*plan)->cell_count(), sweep.cells);
    }
  });
}

TEST(SharedPartsTest, LinesOfTheAuditLogStayWhole) {
  constexpr int kLines = 50;
  const testing::TempFolder folder;
  const auto log = access::AuditLog::Open(folder / "audit.log");
  ASSERT_TRUE(log.ok()) << log.status();
  const auto line = [](int thread, int number) {
    return fmt::format("{} {} {}\n", thread, number, std::string(200, 'x'));
  };
  FromManyThreads([&](int thread) {
    for (int i = 0; i < kLines; ++i) (*log)->Append(line(thread, i).substr(0, line(thread, i).size() - 1));
  });
  const std::string text = *ReadFile(folder / "audit.log");
  size_t size = 0;
  for (int thread = 0; thread < kThreads; ++thread) {
    for (int i = 0; i < kLines; ++i) {
      EXPECT_THAT(text, ::testing::HasSubstr(line(thread, i)));
      size += line(thread, i).size();
    }
  }
  EXPECT_EQ(text.size(), size);
}

TEST(SharedPartsTest, TheSameArtifactFromSeveralWorkersIsThereOnceAndWhole) {
  const testing::TempFolder folder;
  const auto artifacts = store::ArtifactFolder::Open(folder / "artifacts");
  ASSERT_TRUE(artifacts.ok()) << artifacts.status();
  const std::string content(100'000, 'a');
  FromManyThreads([&](int) {
    auto upload = (*artifacts)->Begin();
    ASSERT_TRUE(upload.ok()) << upload.status();
    EXPECT_TRUE((*upload)->Append(content).ok());
    EXPECT_TRUE((*upload)->Finish(static_cast<int64_t>(content.size()), Sha256Hex(content)).ok());
    EXPECT_EQ(*(*artifacts)->Read(Sha256Hex(content)), content);
  });
  EXPECT_THAT(*(*artifacts)->List(), ::testing::ElementsAre(Sha256Hex(content)));
}

}  // namespace
}  // namespace loupe::coordinator::api
