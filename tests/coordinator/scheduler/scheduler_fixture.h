// What the scheduler's tests have in common: a scheduler with random numbers and a clock of the test's.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/scheduler/scheduler.h"
#include "fmt/format.h"
#include "tests/testing/fake_random.h"

namespace loupe::coordinator::scheduler {

inline constexpr absl::Duration kTick = absl::Nanoseconds(1);

class SchedulerTest : public ::testing::Test {
 protected:
  SchedulerTest() : scheduler_(MakeOptions(), random_) {}

  static SchedulerOptions MakeOptions() {
    SchedulerOptions options;
    options.lease = absl::Seconds(30);
    options.progress_timeout = absl::Minutes(10);
    return options;
  }

  SweepRecord Create(const std::string& id, int64_t cells = 4, int32_t replicates = 1, int32_t priority = 0,
                     RetryLimits limits = {}) {
    SweepRecord sweep;
    sweep.id = id;
    sweep.uid = fmt::format("uid-{}", id);
    sweep.cells = cells;
    sweep.replicates = replicates;
    sweep.priority = priority;
    sweep.limits = limits;
    return *scheduler_.OnCreate(
        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_);
  }

  SyncRequest Request(const std::string& worker, const std::string& session = "s1", int32_t slots = 1) {
    SyncRequest request;
    request.worker = worker;
    request.session = session;
    request.slots = slots;
    return request;
  }
  SyncAnswer Sync(const SyncRequest& request) {
    absl::StatusOr<SyncAnswer> answer = scheduler_.OnSync(request, now_, effects_);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return *answer;
  }
  // The attempt that a fresh worker is given.
  DesiredAttempt Lease(const std::string& worker) {
    const SyncAnswer answer = Sync(Request(worker));
    EXPECT_EQ(answer.desired.size(), 1u);
    return answer.desired.at(0);
  }
  static AttemptReport ReportOf(const DesiredAttempt& attempt) {
    AttemptReport report;
    report.lease = {attempt.sweep_id, attempt.trial.index, attempt.epoch, ToHex(attempt.token)};
    return report;
  }
  SyncAnswer Tell(const std::string& worker, const DesiredAttempt& attempt,
                  std::variant<std::monostate, Result, Failure, Stopped> outcome) {
    SyncRequest request = Request(worker);
    request.attempts.push_back(ReportOf(attempt));
    request.attempts[0].outcome = std::move(outcome);
    return Sync(request);
  }
  void Pass(absl::Duration time) {
    now_.monotonic += time;
    now_.wall += time;
    scheduler_.OnTick(now_, effects_);
  }
  // The steps of jobs that are left.
  void Finish() {
    while (scheduler_.HasWork()) {
      scheduler_.BeginTurn(scheduler_.options().job_rows);
      scheduler_.Work(now_, effects_);
    }
  }
  TrialCounts Counts(const std::string& id) { return scheduler_.View(id, now_)->counts; }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const auto& [id, worker] : scheduler_.workers().all()) names.push_back(id);
    return names;
  }
  SweepState State(const std::string& id) { return scheduler_.View(id, now_)->record->state; }

  testing::FakeRandom random_;
  Scheduler scheduler_;
  Now now_{absl::Seconds(1000), absl::FromUnixSeconds(1'800'000'000)};
  Effects effects_;
};

}  // namespace loupe::coordinator::scheduler
