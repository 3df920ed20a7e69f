// The engine behind its queue, with many threads in front of it: what the thread sanitizer looks at without gRPC in
// between.
#include "coordinator/engine/engine_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "common/random_source.h"
#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::engine {
namespace {

constexpr int64_t kCells = 40;

class EngineThreadTest : public ::testing::Test {
 protected:
  EngineThreadTest()
      : store_(*store::SqliteStore::Open({.path = folder_ / "db"})),
        engine_(scheduler::SchedulerOptions(), {store_.get(), &SystemClock(), &SystemRandom(), nullptr}) {
    EXPECT_TRUE(engine_.Recover().ok());
    thread_ = std::make_unique<EngineThread>(engine_, SystemClock());
    scheduler::SweepRecord sweep;
    sweep.id = "first";
    sweep.uid = "uid";
    sweep.cells = kCells;
    sweep.replicates = 1;
    const auto created = thread_->Call<scheduler::SweepRecord>(
        [=](scheduler::Scheduler& scheduler, const scheduler::Now& now, scheduler::Effects& effects) {
          return scheduler.OnCreate(
              sweep, [](int64_t) { return "{}"; }, "", "", now, effects);
        });
    EXPECT_TRUE(created.ok()) << created.status();
  }

  absl::StatusOr<scheduler::SyncAnswer> Sync(const scheduler::SyncRequest& request,
                                             absl::Duration max_wait = absl::ZeroDuration()) {
    const auto promise = std::make_shared<std::promise<absl::StatusOr<scheduler::SyncAnswer>>>();
    std::future<absl::StatusOr<scheduler::SyncAnswer>> future = promise->get_future();
    thread_->Submit(SyncCall{
        request, max_wait,
        [promise](absl::StatusOr<scheduler::SyncAnswer> answer) { promise->set_value(std::move(answer)); }, ++calls_});
    return future.get();
  }

  testing::TempFolder folder_;
  std::unique_ptr<store::SqliteStore> store_;
  Engine engine_;
  std::unique_ptr<EngineThread> thread_;
  std::atomic<uint64_t> calls_{0};
};

TEST_F(EngineThreadTest, ManyWorkersReadersAndCommandsAtOnceLeaveEveryTrialDoneOnce) {
  std::atomic<int64_t> accepted{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      scheduler::SyncRequest base;
      base.worker = fmt::format("w{}", number);
      base.session = "s";
      scheduler::SyncRequest request = base;
      while (true) {
        const absl::StatusOr<scheduler::SyncAnswer> answer = Sync(request);
        if (!answer.ok()) break;
        for (const scheduler::Verdict& verdict : answer->verdicts) accepted += verdict.status.ok() ? 1 : 0;
        if (answer->desired.empty()) break;
        const scheduler::DesiredAttempt& attempt = answer->desired[0];
        request = base;
        request.attempts.resize(1);
        request.attempts[0].lease = {attempt.sweep_id, attempt.trial.index, attempt.epoch, ToHex(attempt.token)};
        request.attempts[0].outcome = scheduler::Result{{{"clip_i", 0.5}}};
      }
    });
  }
  std::thread reader([&] {
    while (!done) EXPECT_TRUE(store_->ListTrials(1, {}).ok());
  });
  for (std::thread& thread : threads) thread.join();
  done = true;
  reader.join();
  EXPECT_EQ(accepted, kCells);
  EXPECT_EQ(store_->CountTrials(1)->succeeded, kCells);
}

TEST_F(EngineThreadTest, AHeldCallIsAnsweredWhenTheThreadStops) {
  scheduler::SyncRequest all;
  all.worker = "greedy";
  all.session = "s";
  all.slots = kCells;
  ASSERT_EQ(Sync(all)->desired.size(), static_cast<size_t>(kCells));
  scheduler::SyncRequest idle;
  idle.worker = "idle";
  idle.session = "s";
  const auto promise = std::make_shared<std::promise<absl::Status>>();
  thread_->Submit(
      SyncCall{idle, absl::Hours(1),
               [promise](const absl::StatusOr<scheduler::SyncAnswer>& answer) { promise->set_value(answer.status()); },
               ++calls_});
  thread_.reset();
  EXPECT_EQ(promise->get_future().get().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace loupe::coordinator::engine
