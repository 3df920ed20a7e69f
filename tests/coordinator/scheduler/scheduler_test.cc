#include "coordinator/scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "common/error_details.h"
#include "common/sha256.h"
#include "fmt/format.h"
#include "tests/testing/fake_random.h"

namespace loupe::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kTick = absl::Nanoseconds(1);

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

TEST_F(SchedulerTest, ALeaseLivesThroughItsLastNanosecondAndNoLonger) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  Pass(absl::Seconds(30) - kTick);
  EXPECT_EQ(Counts("first").running, 1);
  Pass(kTick);
  EXPECT_EQ(Counts("first").running, 0);
  const SyncAnswer late = Tell("a", attempt, Result{{{"s", 1.0}}});
  EXPECT_EQ(ReasonOf(late.verdicts[0].status), kReasonLeaseLost);
}

TEST_F(SchedulerTest, AReportRenewsTheLeaseForAFullTerm) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  Pass(absl::Seconds(29));
  Tell("a", attempt, std::monostate{});
  Pass(absl::Seconds(30) - kTick);
  EXPECT_EQ(Counts("first").running, 1);
}

TEST_F(SchedulerTest, AnExpiredLeaseIsReofferedWithAHigherEpochAndAnotherToken) {
  Create("first", 1);
  const DesiredAttempt first = Lease("a");
  Pass(absl::Seconds(30));
  const DesiredAttempt second = Lease("b");
  EXPECT_EQ(second.trial, first.trial);
  EXPECT_EQ(second.epoch, first.epoch + 1);
  EXPECT_NE(second.token, first.token);
}

TEST_F(SchedulerTest, TheSameWorkerThatLostALeaseCannotWriteUnderTheOldEpochAfterItGotTheTrialAgain) {
  Create("first", 1);
  const DesiredAttempt first = Lease("a");
  Pass(absl::Seconds(30));
  const DesiredAttempt second = Lease("a");
  ASSERT_EQ(second.trial, first.trial);
  const SyncAnswer old = Tell("a", first, Result{{{"s", 1.0}}});
  EXPECT_EQ(ReasonOf(old.verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(Counts("first").succeeded, 0);
  EXPECT_TRUE(Tell("a", second, Result{{{"s", 2.0}}}).verdicts[0].status.ok());
}

TEST_F(SchedulerTest, ALostAnswerIsHealedByTheNextOne) {
  Create("first");
  const DesiredAttempt granted = Lease("a");
  const SyncAnswer again = Sync(Request("a"));
  ASSERT_EQ(again.desired.size(), 1u);
  EXPECT_EQ(again.desired[0].epoch, granted.epoch);
  EXPECT_EQ(again.desired[0].token, granted.token);
}

TEST_F(SchedulerTest, TokenWorkerAndSessionMustAllFit) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  DesiredAttempt forged = attempt;
  forged.token[3] ^= 1;
  EXPECT_EQ(ReasonOf(Tell("a", forged, Result{}).verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(ReasonOf(Tell("b", attempt, Result{}).verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(Counts("first").succeeded, 0);
}

TEST_F(SchedulerTest, ARepeatedCompletionIsAnsweredAlikeAndADifferentOneRefused) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  const Result result{{{"s", 1.0}}};
  EXPECT_TRUE(Tell("a", attempt, result).verdicts[0].status.ok());
  EXPECT_TRUE(Tell("a", attempt, result).verdicts[0].status.ok());
  EXPECT_EQ(ReasonOf(Tell("a", attempt, Result{{{"s", 2.0}}}).verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(Counts("first").succeeded, 1);
}

TEST_F(SchedulerTest, MetricPointsThatWereAcknowledgedAreNotStoredAgain) {
  Create("first");
  const DesiredAttempt attempt = Lease("a");
  SyncRequest request = Request("a");
  request.attempts.push_back(ReportOf(attempt));
  request.attempts[0].points = {{"loss", 1, 0.5}, {"loss", 2, 0.4}};
  request.attempts[0].point_sequence = 2;
  EXPECT_EQ(Sync(request).verdicts[0].acknowledged_point_sequence, 2);
  effects_.clear();
  EXPECT_EQ(Sync(request).verdicts[0].acknowledged_point_sequence, 2);
  EXPECT_TRUE(effects_.empty());
  request.attempts[0].points.push_back({"loss", 3, 0.3});
  request.attempts[0].point_sequence = 3;
  Sync(request);
  ASSERT_EQ(effects_.size(), 1u);
  EXPECT_EQ(std::get<AppendPoints>(effects_[0]).points.size(), 1u);
}

TEST_F(SchedulerTest, ALostWorkerCostsNoRetryButKLossesQuarantine) {
  RetryLimits limits;
  limits.max_worker_losses = 3;
  limits.max_trial_attempts = 1;
  Create("first", 1, 1, 0, limits);
  for (int loss = 1; loss <= 3; ++loss) {
    EXPECT_EQ(Counts("first").quarantined, 0);
    Lease(fmt::format("w{}", loss));
    Pass(absl::Seconds(30));
  }
  EXPECT_EQ(Counts("first").quarantined, 1);
  EXPECT_EQ(State("first"), SweepState::kCompleted);
}

TEST_F(SchedulerTest, ARetryableFailureWaitsOutItsBackOffWhichDoubles) {
  RetryLimits limits;
  limits.max_trial_attempts = 4;
  limits.backoff = absl::Seconds(10);
  Create("first", 1, 1, 0, limits);
  for (const int wait : {10, 20, 40}) {
    const DesiredAttempt attempt = Lease("a");
    Tell("a", attempt, Failure{FailureClass::kRetryable, "disk"});
    Pass(absl::Seconds(wait) - kTick);
    EXPECT_TRUE(Sync(Request("a")).desired.empty()) << wait;
    Pass(kTick);
  }
  Tell("a", Lease("a"), Failure{FailureClass::kRetryable, "disk"});
  EXPECT_EQ(Counts("first").failed, 1);
}

TEST_F(SchedulerTest, AUserErrorIsNotTriedAgainAndTheSweepGoesOn) {
  Create("first", 2);
  const DesiredAttempt attempt = Lease("a");
  const SyncAnswer answer = Tell("a", attempt, Failure{FailureClass::kUserError, "NaN loss"});
  EXPECT_EQ(Counts("first").failed, 1);
  ASSERT_EQ(answer.desired.size(), 1u);
  EXPECT_NE(answer.desired[0].trial, attempt.trial);
}

TEST_F(SchedulerTest, TooManyFailedTrialsPauseTheSweepWithAReason) {
  RetryLimits limits;
  limits.max_failed_trials = 2;
  Create("first", 4, 1, 0, limits);
  Tell("a", Lease("a"), Failure{FailureClass::kUserError, "x"});
  const SyncAnswer second = Sync(Request("a"));
  Tell("a", second.desired.at(0), Failure{FailureClass::kUserError, "x"});
  EXPECT_EQ(State("first"), SweepState::kPaused);
  EXPECT_THAT(scheduler_.View("first", now_)->record->state_reason, HasSubstr("2 trials failed"));
  EXPECT_TRUE(Sync(Request("a")).desired.empty());
}

TEST_F(SchedulerTest, AStandstillIsAFailureThoughTheWorkerIsAlive) {
  Create("first", 1);
  const DesiredAttempt attempt = Lease("a");
  for (int i = 0; i < 40; ++i) {
    Pass(absl::Seconds(15));
    EXPECT_TRUE(Tell("a", attempt, std::monostate{}).verdicts[0].status.ok());
  }
  Pass(kTick);
  const SyncAnswer answer = Tell("a", attempt, std::monostate{});
  EXPECT_EQ(ReasonOf(answer.verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(Counts("first").running, 0);
}

// Alive, and others come to its pack and go; its own step does not move.
TEST_F(SchedulerTest, PacksAreShownAndAreNoProgress) {
  Create("first", 1);
  const DesiredAttempt attempt = Lease("a");
  SyncRequest request = Request("a");
  request.attempts.push_back(ReportOf(attempt));
  for (int32_t beat = 1; beat <= 40; ++beat) {
    Pass(absl::Seconds(15));
    request.attempts[0].pack = 1 + beat % 4;
    EXPECT_TRUE(Sync(request).verdicts[0].status.ok());
    ASSERT_EQ(scheduler_.Running("first", now_).size(), 1u);
    EXPECT_EQ(scheduler_.Running("first", now_).front().pack, 1 + beat % 4);
  }
  Pass(kTick);
  EXPECT_EQ(ReasonOf(Sync(request).verdicts[0].status), kReasonLeaseLost);
}

TEST_F(SchedulerTest, AWorkerThatKeepsDyingIsSetAsideForAWhile) {
  RetryLimits limits;
  limits.max_worker_losses = 100;
  Create("first", 8, 1, 0, limits);
  for (int i = 0; i < 3; ++i) Sync(Request("a", fmt::format("s{}", i)));
  EXPECT_TRUE(Sync(Request("a", "s3")).desired.empty()) << "three losses";
  EXPECT_EQ(Sync(Request("b")).desired.size(), 1u);
  Pass(absl::Minutes(2));
  EXPECT_EQ(Sync(Request("a", "s3")).desired.size(), 1u);
}

TEST_F(SchedulerTest, AWorkerLongAwayIsForgotten) {
  const absl::Duration month = WorkerRules().forget_after;
  Create("first");
  Sync(Request("away"));
  const DesiredAttempt held = Lease("here");
  Sync(Request("waits"));
  scheduler_.Park("waits", now_);
  Pass(month - kTick);
  Tell("here", held, {});
  EXPECT_THAT(Names(), ElementsAre("away", "here", "waits"));
  effects_.clear();
  Pass(kTick);
  EXPECT_THAT(Names(), ElementsAre("here", "waits")) << "who is connected stays, however long it says nothing";
  ASSERT_EQ(std::count_if(effects_.begin(), effects_.end(),
                          [](const Effect& effect) { return std::holds_alternative<ForgetWorker>(effect); }),
            1);
  // Civil time that jumps costs nobody who is there anything.
  now_.wall += 100 * month;
  Pass(kTick);
  EXPECT_THAT(Names(), ElementsAre("here", "waits"));
  EXPECT_EQ(Counts("first").running, 1);
  Sync(Request("away"));
  EXPECT_THAT(Names(), ElementsAre("away", "here", "waits")) << "it comes back as a new one";
}

TEST_F(SchedulerTest, ManyNamesAreForgottenLongestAwayFirst) {
  const size_t most = WorkerRules().most_names;
  for (size_t i = 0; i < most + 5; ++i) {
    now_.wall += absl::Seconds(1);
    Sync(Request(fmt::format("w{:06}", most + 5 - i)));
  }
  Pass(kTick);
  EXPECT_EQ(Names().size(), most + 5) << "all were heard of within a lease";
  Pass(absl::Seconds(31));
  EXPECT_EQ(Names().size(), most);
  EXPECT_EQ(Names().back(), fmt::format("w{:06}", most));
}

TEST_F(SchedulerTest, WhenAWorkerWasHeardOfIsStoredDaily) {
  Sync(Request("a"));
  const auto stored = [&] {
    return std::count_if(effects_.begin(), effects_.end(), [&](const Effect& effect) {
      const auto* count = std::get_if<CountWorker>(&effect);
      return count != nullptr && count->last_seen == now_.wall;
    });
  };
  Pass(kSeenInterval - kTick);
  Sync(Request("a"));
  EXPECT_EQ(stored(), 0);
  Pass(kTick);
  Sync(Request("a"));
  EXPECT_EQ(stored(), 1);
}

class NeedsTest : public SchedulerTest {
 protected:
  // Cells 0 and 2 need method adapter, cell 1 lora; cell 3 settings of version 9.
  NeedsTest() {
    SweepNeeds needs;
    needs.classes = {{.method = "adapter"}, {.settings_version = 2, .method = "lora"}, {.settings_version = 9}};
    needs.class_of_cell = {0, 1, 0, 2};
    SweepRecord sweep;
    sweep.id = "mixed";
    sweep.uid = "uid";
    sweep.cells = 4;
    sweep.replicates = 2;
    EXPECT_TRUE(scheduler_
                    .OnCreate(
                        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, "",
                        std::make_shared<const SweepNeeds>(needs))
                    .ok());
  }
  SyncRequest RequestOf(const std::string& worker, std::set<std::string> methods, int32_t version, int32_t slots = 1) {
    SyncRequest request = Request(worker, "s1", slots);
    request.description.abilities.settings_version = version;
    request.description.abilities.methods = std::move(methods);
    return request;
  }
  static std::multiset<int64_t> CellsOf(const SyncAnswer& answer) {
    std::multiset<int64_t> cells;
    for (const DesiredAttempt& attempt : answer.desired) cells.insert(attempt.cell);
    return cells;
  }
  std::vector<WaitingTrials> Waiting() { return scheduler_.View("mixed", now_)->waiting; }
};

TEST_F(NeedsTest, AWorkerIsGivenWhatItCanRun) {
  // A program that says nothing about itself runs adapters.
  EXPECT_THAT(CellsOf(Sync(Request("old", "s1", 8))), ElementsAre(0, 0, 2, 2));
  EXPECT_THAT(CellsOf(Sync(RequestOf("lora", {"lora"}, 2, 8))), ElementsAre(1, 1));
  EXPECT_THAT(CellsOf(Sync(RequestOf("both", {"adapter", "lora"}, 8, 8))), ElementsAre());
  EXPECT_THAT(CellsOf(Sync(RequestOf("new", {}, 9, 8))), ElementsAre(3, 3));
}

TEST_F(NeedsTest, ClassesKeepTheOneRunOrder) {
  const auto granted = [&](const SyncRequest& request) {
    effects_.clear();
    Sync(request);
    std::vector<int64_t> indexes;
    for (const Effect& effect : effects_) {
      if (const auto* start = std::get_if<StartAttempt>(&effect)) indexes.push_back(start->trial.index);
    }
    return indexes;
  };
  const std::vector<int64_t> mixed = granted(RequestOf("all", {"adapter", "lora"}, 9, 8));
  Create("plain", 4, 2);
  EXPECT_EQ(mixed, granted(Request("any", "s1", 8)));
  EXPECT_EQ(mixed.size(), 8u);
}

TEST_F(NeedsTest, WhatNobodyCanRunWaitsAtNoCost) {
  EXPECT_THAT(Waiting(), ElementsAre(WaitingTrials{"mixed", 8, "no worker is connected"}));
  const SyncAnswer old = Sync(Request("old", "s1", 8));
  EXPECT_EQ(old.desired.size(), 4u);
  EXPECT_THAT(Waiting(),
              ElementsAre(WaitingTrials{"mixed", 2, "method lora, and no connected worker runs it"},
                          WaitingTrials{"mixed", 2,
                                        "settings of version 9, and connected workers know version 1 at most: update "
                                        "them"}));
  EXPECT_EQ(scheduler_.Waiting(now_, 10), Waiting());
  EXPECT_EQ(scheduler_.Waiting(now_, 1).size(), 1u);
  // No attempt was used up, and a worker that comes is given them at once.
  EXPECT_EQ(Counts("mixed").queued, 4);
  scheduler_.Park("old", now_);
  const SyncAnswer lora = Sync(RequestOf("lora", {"lora"}, 2, 8));
  ASSERT_EQ(lora.desired.size(), 2u);
  EXPECT_EQ(lora.desired[0].epoch, 1);
  EXPECT_EQ(Waiting().size(), 1u);
  // It goes, and they wait again.
  Pass(absl::Seconds(31));
  EXPECT_EQ(Waiting().size(), 2u);
}

TEST_F(NeedsTest, WorkGoesToAWaitingWorkerThatCanRunIt) {
  Sync(Request("old", "s1", 4));
  for (const char* worker : {"older", "newer"}) {
    SyncRequest request = RequestOf(worker, {"other"}, 1);
    Sync(request);
    scheduler_.Park(worker, now_);
  }
  Sync(RequestOf("lora", {"lora"}, 2, 1));
  Sync(RequestOf("lora2", {"lora"}, 2, 1));
  // Both trials of cell 1 are out; one comes back, and of those that wait only this one runs it.
  Sync(RequestOf("third", {"lora"}, 2, 1));
  scheduler_.Park("third", now_);
  const std::set<TrialKey> held = scheduler_.workers().all().at("lora").attempts;
  ASSERT_EQ(held.size(), 1u);
  SyncRequest leaving = RequestOf("lora", {"lora"}, 2, 1);
  leaving.draining = true;
  Sync(leaving);
  scheduler_.Dispatch(now_, effects_);
  EXPECT_THAT(scheduler_.TakeWoken(), ElementsAre("third"));
  EXPECT_EQ(scheduler_.workers().all().at("third").attempts, held);
}

TEST_F(SchedulerTest, ANewSessionTakesTheNameAndTheOldOneIsToldForGood) {
  Create("first");
  Sync(Request("a", "s1"));
  Sync(Request("a", "s2"));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ReasonOf(scheduler_.OnSync(Request("a", "s1"), now_, effects_).status()), kReasonSessionSuperseded);
  }
}

TEST_F(SchedulerTest, HigherPriorityRunsFirstAndEqualsShareFairly) {
  Create("low-", 10, 1, 0);
  Create("high-a", 10, 1, 5);
  Create("high-b", 10, 1, 5);
  std::map<std::string, int> running;
  for (int i = 0; i < 8; ++i) ++running[Lease(fmt::format("w{}", i)).sweep_id];
  EXPECT_EQ(running["high-a"], 4);
  EXPECT_EQ(running["high-b"], 4);
  EXPECT_EQ(running["low-"], 0);
}

TEST_F(SchedulerTest, PauseGivesNothingNewAndLetsWhatRunsCount) {
  Create("first", 2);
  const DesiredAttempt attempt = Lease("a");
  ASSERT_TRUE(scheduler_.OnVerb("first", SweepVerb::kPause, "", now_, effects_).ok());
  EXPECT_TRUE(Tell("a", attempt, Result{{{"s", 1.0}}}).verdicts[0].status.ok());
  EXPECT_TRUE(Sync(Request("a")).desired.empty());
  ASSERT_TRUE(scheduler_.OnVerb("first", SweepVerb::kResume, "", now_, effects_).ok());
  EXPECT_EQ(Sync(Request("a")).desired.size(), 1u);
}

TEST_F(SchedulerTest, StopDrainsAndCancelKills) {
  Create("drain", 3);
  const DesiredAttempt attempt = Lease("a");
  ASSERT_TRUE(scheduler_.OnVerb("drain", SweepVerb::kStop, "", now_, effects_).ok());
  EXPECT_EQ(State("drain"), SweepState::kStopping);
  EXPECT_EQ(Counts("drain").cancelled, 2);
  EXPECT_TRUE(Tell("a", attempt, Result{{{"s", 1.0}}}).verdicts[0].status.ok());
  EXPECT_EQ(State("drain"), SweepState::kStopped);

  Create("kill", 3);
  const DesiredAttempt other = Lease("b");
  ASSERT_TRUE(scheduler_.OnVerb("kill", SweepVerb::kCancel, "", now_, effects_).ok());
  EXPECT_EQ(Counts("kill").cancelled, 3);
  EXPECT_EQ(ReasonOf(Tell("b", other, Result{}).verdicts[0].status), kReasonLeaseLost);
}

TEST_F(SchedulerTest, RetryQueuesWhatItsFilterNamesAndWakesTheSweep) {
  Create("first", 2);
  for (int i = 0; i < 2; ++i) Tell("a", Sync(Request("a")).desired.at(0), Failure{FailureClass::kUserError, "x"});
  EXPECT_EQ(State("first"), SweepState::kCompleted);
  const auto only_cell_1 = [](int64_t cell) { return cell == 1; };
  EXPECT_EQ(*scheduler_.OnRetry("first", {TrialState::kFailed}, only_cell_1, "r1", "f", now_, effects_), 1);
  EXPECT_EQ(*scheduler_.OnRetry("first", {TrialState::kFailed}, only_cell_1, "r1", "f", now_, effects_), 1)
      << "idempotent";
  EXPECT_EQ(Counts("first").queued, 1);
  EXPECT_EQ(State("first"), SweepState::kActive);
  EXPECT_EQ(Lease("a").trial.index, 1);
}

TEST_F(SchedulerTest, CreateIsIdempotentByRequestIdAndRefusesATakenName) {
  SweepRecord sweep;
  sweep.id = "same";
  sweep.cells = 1;
  sweep.replicates = 1;
  const auto create = [&](const std::string& request, const std::string& fingerprint) {
    return scheduler_.OnCreate(
        sweep, [](int64_t) { return "{}"; }, request, fingerprint, now_, effects_);
  };
  const absl::StatusOr<SweepRecord> first = create("r1", "f");
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(create("r1", "f")->key, first->key);
  EXPECT_EQ(create("r1", "other").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create("r2", "f").status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(SchedulerTest, AnEtagOfAnEarlierStateIsRefused) {
  Create("first");
  ASSERT_TRUE(scheduler_.OnVerb("first", SweepVerb::kPause, "1", now_, effects_).ok());
  EXPECT_EQ(ReasonOf(scheduler_.OnVerb("first", SweepVerb::kResume, "1", now_, effects_).status()),
            kReasonEtagMismatch);
}

TEST_F(SchedulerTest, ADrainedWorkerGetsNothingNewUntilUndrained) {
  Create("first", 2);
  const DesiredAttempt attempt = Lease("a");
  ASSERT_TRUE(scheduler_.OnDrain("a", true, now_, effects_).ok());
  const SyncAnswer answer = Tell("a", attempt, Result{{{"s", 1.0}}});
  EXPECT_TRUE(answer.desired.empty());
  EXPECT_TRUE(answer.draining);
  ASSERT_TRUE(scheduler_.OnDrain("a", false, now_, effects_).ok());
  EXPECT_EQ(Sync(Request("a")).desired.size(), 1u);
}

TEST_F(SchedulerTest, AStoppedAttemptGoesBackWithoutCost) {
  RetryLimits limits;
  limits.max_worker_losses = 1;
  limits.max_trial_attempts = 1;
  Create("first", 1, 1, 0, limits);
  SyncRequest leaving = Request("a");
  leaving.draining = true;
  leaving.attempts.push_back(ReportOf(Lease("a")));
  leaving.attempts[0].outcome = Stopped{};
  EXPECT_TRUE(Sync(leaving).desired.empty());
  EXPECT_EQ(Counts("first").queued, 1);
  EXPECT_EQ(Lease("b").epoch, 2);
}

TEST_F(SchedulerTest, WorkGoesToTheWorkerThatHasWaitedLongest) {
  for (const char* worker : {"b", "a", "c"}) {
    Sync(Request(worker));
    scheduler_.Park(worker, now_);
  }
  Create("first", 2);
  scheduler_.Dispatch(now_, effects_);
  EXPECT_EQ(scheduler_.TakeWoken(), (std::vector<std::string>{"a", "b"}));
}

TEST_F(SchedulerTest, AResultThatNamesAnArtifactThatNeverCameIsNoResult) {
  Create("first", 1);
  const DesiredAttempt first = Lease("a");
  Result result{{{"s", 1.0}}};
  result.artifacts = {"samples.png", "log.txt"};
  ASSERT_TRUE(scheduler_.OnArtifact(ReportOf(first).lease, {.name = "samples.png"}, effects_).ok());
  Tell("a", first, result);
  EXPECT_EQ(Counts("first").succeeded, 0);
  EXPECT_EQ(Counts("first").queued, 1) << "it is tried again";
  Pass(absl::Seconds(2));
  const DesiredAttempt second = Lease("a");
  for (const std::string& name : result.artifacts) {
    ASSERT_TRUE(scheduler_.OnArtifact(ReportOf(second).lease, {.name = name}, effects_).ok());
  }
  Tell("a", second, result);
  EXPECT_EQ(Counts("first").succeeded, 1);
}

// Jobs on whole sweeps: work in steps of ten rows.
class JobsTest : public SchedulerTest {
 protected:
  static constexpr int64_t kRoom = 10;
  // One turn; the rows of trials that it wrote.
  int64_t Turn() {
    effects_.clear();
    scheduler_.BeginTurn(kRoom);
    const int64_t rows = scheduler_.Work(now_, effects_);
    return rows;
  }
  // How many turns until there is no work.
  int Turns() {
    int turns = 0;
    for (; scheduler_.HasWork(); ++turns) EXPECT_LE(Turn(), kRoom);
    return turns;
  }
  SweepState Shown(const std::string& id) { return scheduler_.View(id, now_)->record->shown_state(); }
  void CreateLarge(const std::string& id, int64_t cells, const std::string& client = "") {
    scheduler_.BeginTurn(0);
    SweepRecord sweep;
    sweep.id = id;
    sweep.cells = cells;
    sweep.replicates = 1;
    ASSERT_TRUE(scheduler_
                    .OnCreate(
                        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, client)
                    .ok());
  }
  template <typename E>
  int64_t Count() const {
    return std::count_if(effects_.begin(), effects_.end(),
                         [](const Effect& effect) { return std::holds_alternative<E>(effect); });
  }
};

TEST_F(JobsTest, NothingRunsBeforeAllIsStored) {
  CreateLarge("large", 95);
  EXPECT_EQ(Shown("large"), SweepState::kCreating);
  EXPECT_TRUE(Sync(Request("a")).desired.empty());
  EXPECT_EQ(scheduler_.OnVerb("large", SweepVerb::kCancel, "", now_, effects_).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Turns(), 10);
  EXPECT_EQ(Shown("large"), SweepState::kActive);
  EXPECT_EQ(Sync(Request("a")).desired.size(), 1u);
}

TEST_F(JobsTest, SmallSweepsAreDoneWithTheirCall) {
  Create("small", 8);
  EXPECT_FALSE(scheduler_.HasWork());
  EXPECT_EQ(Count<PutJob>(), 0);
  ASSERT_TRUE(scheduler_.OnVerb("small", SweepVerb::kCancel, "", now_, effects_).ok());
  EXPECT_EQ(State("small"), SweepState::kCancelled);
  EXPECT_EQ(Count<PutJob>() + Count<EndJob>(), 0);
}

TEST_F(JobsTest, ClientsTakeTurns) {
  for (const char* id : {"a1", "a2", "a3"}) CreateLarge(id, 100, "greedy");
  CreateLarge("b1", 30, "modest");
  for (int turn = 0; turn < 6; ++turn) Turn();
  EXPECT_EQ(Shown("b1"), SweepState::kActive) << "every second turn was its own";
  EXPECT_EQ(Shown("a1"), SweepState::kCreating);
  Turns();
  EXPECT_EQ(Shown("a3"), SweepState::kActive);
}

TEST_F(JobsTest, ACancelledSweepEndsWithItsLastTrial) {
  Create("large", 95);
  const DesiredAttempt attempt = Lease("a");
  scheduler_.BeginTurn(kRoom);
  ASSERT_TRUE(scheduler_.OnVerb("large", SweepVerb::kCancel, "", now_, effects_).ok());
  EXPECT_EQ(State("large"), SweepState::kStopping);
  EXPECT_EQ(Counts("large").running, 0) << "what runs ends at once";
  EXPECT_TRUE(Sync(Request("b")).desired.empty());
  Turns();
  EXPECT_EQ(State("large"), SweepState::kCancelled);
  EXPECT_EQ(Counts("large").cancelled, 95);
}

TEST_F(JobsTest, RetriesAreCountedAtOnceAndQueuedInSteps) {
  Create("large", 95);
  ASSERT_TRUE(scheduler_.OnVerb("large", SweepVerb::kCancel, "", now_, effects_).ok());
  scheduler_.BeginTurn(kRoom);
  const auto even = [](int64_t cell) { return cell % 2 == 0; };
  EXPECT_EQ(*scheduler_.OnRetry("large", {TrialState::kCancelled}, even, "r", "f", now_, effects_), 48);
  EXPECT_EQ(Counts("large").queued, 10);
  EXPECT_EQ(State("large"), SweepState::kActive);
  EXPECT_EQ(Lease("a").trial.index, 0) << "what is queued runs meanwhile";
  EXPECT_EQ(scheduler_.OnRetry("large", {TrialState::kCancelled}, nullptr, "", "", now_, effects_).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*scheduler_.OnRetry("large", {TrialState::kCancelled}, even, "r", "f", now_, effects_), 48) << "idempotent";
  Turns();
  EXPECT_EQ(Counts("large").queued, 47);
  EXPECT_EQ(Counts("large").cancelled, 47);
}

TEST_F(JobsTest, ASweepThatIsBeingDeletedTakesNoCommands) {
  Create("large", 95);
  const DesiredAttempt attempt = Lease("a");
  scheduler_.BeginTurn(kRoom);
  EXPECT_EQ(scheduler_.OnDelete("large", false, "", now_, effects_).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(scheduler_.OnDelete("large", true, "", now_, effects_).ok());
  EXPECT_EQ(Shown("large"), SweepState::kDeleting);
  EXPECT_EQ(ReasonOf(Tell("a", attempt, Result{}).verdicts[0].status), kReasonLeaseLost);
  EXPECT_EQ(scheduler_.OnVerb("large", SweepVerb::kPause, "", now_, effects_).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(scheduler_.OnDelete("large", true, "", now_, effects_).ok()) << "idempotent";
  SweepRecord again;
  again.id = "large";
  again.cells = again.replicates = 1;
  const absl::Status taken = scheduler_
                                 .OnCreate(
                                     again, [](int64_t) { return "{}"; }, "", "", now_, effects_)
                                 .status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("being deleted"));
  // The store says when the last row is gone.
  effects_.clear();
  scheduler_.BeginTurn(kRoom);
  scheduler_.Work(now_, effects_);
  for (const Effect& effect : effects_) {
    if (const PurgeSweep* purge = std::get_if<PurgeSweep>(&effect)) purge->report(true);
  }
  scheduler_.BeginTurn(kRoom);
  EXPECT_EQ(scheduler_.View("large", now_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(scheduler_.HasWork());
}

// A scheduler as it is after a restart: one trial runs on worker "a", and of its token only the digest is known.
class RestoredSchedulerTest : public SchedulerTest {
 protected:
  RestoredSchedulerTest() {
    SweepRecord sweep;
    sweep.key = 1;
    sweep.id = "first";
    sweep.cells = 2;
    sweep.replicates = 1;
    scheduler_.RestoreSweep(sweep);
    scheduler_.RestoreTrial(1, 0, TrialState::kRunning, 3, 0, 0, 0);
    scheduler_.RestoreTrial(1, 1, TrialState::kSucceeded, 1, 0, 0, 42);
    WorkerRecord worker;
    worker.id = "a";
    worker.session = "s1";
    worker.succeeded = 7;
    scheduler_.RestoreWorker(worker, now_);
    scheduler_.RestoreAttempt({1, 0}, 3, Sha256Hex(ToHex(token_)), "a", "s1", 0, {"log.txt"}, now_);
  }
  const Token128 token_{9, 8, 7};
  const DesiredAttempt running_{{1, 0}, "first", 3, token_};
};

TEST_F(RestoredSchedulerTest, TheWorkerThatShowsTheTokenGoesOnAndItsEarlierFilesCount) {
  const SyncAnswer answer = Tell("a", running_, std::monostate{});
  EXPECT_TRUE(answer.verdicts[0].status.ok());
  ASSERT_EQ(answer.desired.size(), 1u);
  EXPECT_EQ(answer.desired[0].token, token_);
  Result result{{{"s", 1.0}}};
  result.artifacts = {"log.txt"};
  Tell("a", running_, result);
  EXPECT_EQ(Counts("first").succeeded, 2);
  EXPECT_EQ(scheduler_.workers().all().at("a").record.succeeded, 8) << "counted on from before the restart";
}

TEST_F(RestoredSchedulerTest, AWorkerThatDoesNotReportItNeverHeardOfItAndTheTrialIsOfferedAnew) {
  const SyncAnswer answer = Sync(Request("a"));
  ASSERT_EQ(answer.desired.size(), 1u);
  EXPECT_EQ(answer.desired[0].trial, running_.trial);
  EXPECT_EQ(answer.desired[0].epoch, 4);
  EXPECT_NE(answer.desired[0].token, token_);
  EXPECT_EQ(ReasonOf(Tell("a", running_, Result{}).verdicts[0].status), kReasonLeaseLost);
}

TEST_F(RestoredSchedulerTest, AForgedTokenIsStillRefused) {
  DesiredAttempt forged = running_;
  forged.token[0] ^= 1;
  EXPECT_EQ(ReasonOf(Tell("a", forged, Result{}).verdicts[0].status), kReasonLeaseLost);
}

// Linear work per message would take minutes here; what is asserted is memory's and the queue's correctness at size.
TEST_F(SchedulerTest, HoldsAMillionTrialsAndGivesEachOnce) {
  Create("huge", 250'000, 4);
  Finish();
  effects_.clear();
  SyncRequest request = Request("a", "s1", 1000);
  const SyncAnswer first = Sync(request);
  ASSERT_EQ(first.desired.size(), 1000u);
  std::set<TrialKey> seen;
  for (const DesiredAttempt& attempt : first.desired) seen.insert(attempt.trial);
  EXPECT_EQ(seen.size(), 1000u);
  for (const DesiredAttempt& attempt : first.desired) {
    request.attempts.push_back(ReportOf(attempt));
    request.attempts.back().outcome = Result{{{"s", 1.0}}};
  }
  const SyncAnswer second = Sync(request);
  for (const DesiredAttempt& attempt : second.desired) EXPECT_TRUE(seen.insert(attempt.trial).second);
  EXPECT_EQ(Counts("huge").succeeded, 1000);
  EXPECT_EQ(Counts("huge").total(), 1'000'000);
}

Result ResultFrom(const std::string& scorer_sha256, const std::string& scorer = "scorer /a") {
  Result result{.scores = {{"s", 1.0}}};
  result.inputs = {{scorer, scorer_sha256}};
  return result;
}

TEST_F(SchedulerTest, AResultFromOtherFilesRunsAgainAtNoCost) {
  RetryLimits one_attempt;
  one_attempt.max_trial_attempts = 1;
  Create("first", 2, 1, 0, one_attempt);
  Tell("a", Lease("a"), ResultFrom("old-digest-1"));
  effects_.clear();
  const DesiredAttempt attempt = Sync(Request("a")).desired.at(0);
  const SyncAnswer refused = Tell("a", attempt, ResultFrom("new-digest-2"));
  EXPECT_EQ(ReasonOf(refused.verdicts[0].status), kReasonInputsDiffer);
  EXPECT_THAT(std::string(refused.verdicts[0].status.message()),
              ::testing::AllOf(HasSubstr("'scorer /a'"), HasSubstr("new-digest-2"), HasSubstr("old-digest-1")));
  EXPECT_EQ(Counts("first").queued, 1) << "not failed, though one attempt is all it has";
  Pass(absl::Seconds(2));
  const DesiredAttempt again = Sync(Request("a")).desired.at(0);
  EXPECT_EQ(again.trial, attempt.trial);
  Tell("a", again, ResultFrom("old-digest-1"));
  EXPECT_EQ(State("first"), SweepState::kCompleted);
  EXPECT_EQ(Counts("first").succeeded, 2);
}

TEST_F(SchedulerTest, InputsOfAnotherValueHaveTheirOwnDigest) {
  Create("first", 2);
  Tell("a", Lease("a"), ResultFrom("digest-1", "scorer /a"));
  Tell("a", Sync(Request("a")).desired.at(0), ResultFrom("digest-2", "scorer /b"));
  EXPECT_EQ(Counts("first").succeeded, 2);
}

TEST_F(SchedulerTest, FilesThatWereReplacedForGoodPauseTheSweep) {
  Create("first", 3);
  Tell("a", Lease("a"), ResultFrom("old-digest"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(State("first"), SweepState::kActive);
    Pass(absl::Seconds(10));
    Tell("a", Sync(Request("a")).desired.at(0), ResultFrom("new-digest"));
  }
  EXPECT_EQ(State("first"), SweepState::kPaused);
  EXPECT_THAT(scheduler_.View("first", now_)->record->state_reason, HasSubstr("'scorer /a'"));
  EXPECT_EQ(Counts("first").queued, 2) << "nothing is lost";
}

TEST_F(SchedulerTest, WhatTheResultsCameFromOutlivesARestart) {
  const SweepRecord sweep = Create("first", 2);
  Tell("a", Lease("a"), ResultFrom("old-digest"));
  const auto kept = std::find_if(effects_.begin(), effects_.end(),
                                 [](const Effect& effect) { return std::holds_alternative<RecordInput>(effect); });
  ASSERT_NE(kept, effects_.end());
  Scheduler restored(MakeOptions(), random_);
  restored.RestoreSweep(sweep);
  restored.RestoreTrial(sweep.key, 0, TrialState::kQueued, 0, 0, 0, 0);
  restored.RestoreTrial(sweep.key, 1, TrialState::kQueued, 0, 0, 0, 0);
  restored.RestoreInput(std::get<RecordInput>(*kept));
  SyncRequest request = Request("b");
  request.attempts.push_back(ReportOf(restored.OnSync(request, now_, effects_)->desired.at(0)));
  request.attempts[0].outcome = ResultFrom("new-digest");
  EXPECT_EQ(ReasonOf(restored.OnSync(request, now_, effects_)->verdicts[0].status), kReasonInputsDiffer);
}

TEST_F(SchedulerTest, AResultThatThePlanRefusesIsAFailure) {
  Create("first", 1);
  SyncRequest request = Request("a");
  request.attempts.push_back(ReportOf(Lease("a")));
  request.attempts[0].outcome = Result{.scores = {{"s", 1.0}}};
  request.examine = [](const SweepRecord&, int64_t, Result) -> absl::StatusOr<Result> {
    return absl::InvalidArgumentError("it lacks the primary score");
  };
  EXPECT_TRUE(Sync(request).verdicts[0].status.ok());
  EXPECT_EQ(Counts("first").failed, 1);
  EXPECT_EQ(Counts("first").succeeded, 0);
}

// Packs: cells 0, 2, 4 … fit each other, and so do 1, 3, 5 ….
class SchedulerPackTest : public SchedulerTest {
 protected:
  void CreateEvenAndOdd(const std::string& id, int64_t cells, RetryLimits limits = {}) {
    SweepNeeds needs;
    needs.classes = {TrialNeeds{}, TrialNeeds{}};
    for (int64_t cell = 0; cell < cells; ++cell) needs.class_of_cell.push_back(static_cast<uint8_t>(cell % 2));
    SweepRecord sweep;
    sweep.id = id;
    sweep.uid = fmt::format("uid-{}", id);
    sweep.cells = cells;
    sweep.replicates = 1;
    sweep.limits = limits;
    ASSERT_TRUE(scheduler_
                    .OnCreate(
                        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, "",
                        std::make_shared<SweepNeeds>(std::move(needs)))
                    .ok());
    Finish();
  }
  SyncRequest Packer(const std::string& worker, int32_t pack_slots, const std::string& session = "s1") {
    SyncRequest request = Request(worker, session);
    request.pack_slots = pack_slots;
    return request;
  }
  // The worker reports what it holds; the trials at `ended` have succeeded.
  SyncAnswer Report(SyncRequest request, const std::vector<DesiredAttempt>& held, const std::set<size_t>& ended) {
    for (size_t i = 0; i < held.size(); ++i) {
      request.attempts.push_back(ReportOf(held[i]));
      if (ended.contains(i)) request.attempts.back().outcome = Result{{{"s", 1.0}}};
    }
    return Sync(request);
  }
  static std::set<int64_t> Parities(const std::vector<DesiredAttempt>& attempts) {
    std::set<int64_t> parities;
    for (const DesiredAttempt& attempt : attempts) parities.insert(attempt.cell % 2);
    return parities;
  }
};

TEST_F(SchedulerPackTest, APackHasOnlyTrialsThatFit) {
  CreateEvenAndOdd("s", 12);
  const SyncAnswer answer = Sync(Packer("a", 4));
  EXPECT_EQ(answer.desired.size(), 4u);
  EXPECT_EQ(Parities(answer.desired).size(), 1u);
  // The other kind goes to the next worker, which is alone with it.
  Pass(absl::Seconds(2));
  const SyncAnswer other = Sync(Packer("b", 16));
  EXPECT_EQ(Parities(other.desired).size(), 1u);
}

TEST_F(SchedulerPackTest, AnOlderWorkerHasOneTrial) {
  CreateEvenAndOdd("s", 12);
  EXPECT_EQ(Sync(Request("a")).desired.size(), 1u);
}

TEST_F(SchedulerPackTest, EachWorkerGetsItsShare) {
  for (const char* worker : {"a", "b", "c"}) {
    Sync(Packer(worker, 8));
    scheduler_.Park(worker, now_);
  }
  Pass(absl::Seconds(2));
  CreateEvenAndOdd("s", 12);
  scheduler_.Dispatch(now_, effects_);
  for (const auto& [id, worker] : scheduler_.workers().all()) EXPECT_EQ(worker.attempts.size(), 2u) << id;
}

TEST_F(SchedulerPackTest, NobodyWaitsLongerThanAPackTakes) {
  CreateEvenAndOdd("s", 12);
  SyncAnswer answer = Sync(Packer("a", 2));
  const int64_t parity = *Parities(answer.desired).begin();
  // One place becomes free at a time: unless the next trial in turn fits, the pack runs out.
  int packs_of_other_kind = 0;
  for (int ended = 0; ended < 12; ++ended) {
    ASSERT_FALSE(answer.desired.empty());
    ASSERT_EQ(Parities(answer.desired).size(), 1u);
    packs_of_other_kind += *Parities(answer.desired).begin() != parity ? 1 : 0;
    // Never were all of one kind finished before the other's turn.
    answer = Report(Packer("a", 2), answer.desired, {0});
    if (ended == 4) {
      EXPECT_GT(packs_of_other_kind, 0);
    }
  }
  EXPECT_EQ(Counts("s").succeeded, 12);
}

TEST_F(SchedulerPackTest, TwoSweepsTakeTurns) {
  CreateEvenAndOdd("first", 8);
  CreateEvenAndOdd("second", 8);
  const SyncAnswer one = Sync(Packer("a", 3));
  ASSERT_EQ(one.desired.size(), 3u);
  const SyncAnswer left = Report(Packer("a", 3), one.desired, {0, 1});
  EXPECT_EQ(left.desired.size(), 1u) << "the other sweep's turn: the pack runs out";
  const SyncAnswer two = Report(Packer("a", 3), left.desired, {0});
  ASSERT_EQ(two.desired.size(), 3u);
  EXPECT_NE(two.desired[0].sweep_id, one.desired[0].sweep_id);
}

TEST_F(SchedulerPackTest, AWorkerWithLessMemoryGetsLess) {
  CreateEvenAndOdd("s", 12);
  const SyncAnswer four = Sync(Packer("a", 4));
  ASSERT_EQ(four.desired.size(), 4u);
  SyncRequest halved = Packer("a", 2);
  for (size_t i = 0; i < 4; ++i) {
    halved.attempts.push_back(ReportOf(four.desired[i]));
    if (i >= 2) halved.attempts.back().outcome = Stopped{};
  }
  EXPECT_EQ(Sync(halved).desired.size(), 2u);
  EXPECT_EQ(Counts("s").queued, 10) << "what was given back waits, and has lost nothing";
}

TEST_F(SchedulerPackTest, APackLostIsOneLossOfItsWorker) {
  CreateEvenAndOdd("s", 12);
  ASSERT_EQ(Sync(Packer("a", 4)).desired.size(), 4u);
  ASSERT_EQ(Sync(Packer("a", 4, "s2")).desired.size(), 4u) << "the restarted worker is trusted still";
}

TEST_F(SchedulerPackTest, TheLastChanceIsAlone) {
  // The trial that ends its process takes others with it: in the end it alone is quarantined.
  CreateEvenAndOdd("s", 8, {.max_worker_losses = 3});
  const auto deadly = [](const DesiredAttempt& attempt) { return attempt.cell == 4; };
  int session = 0;
  const auto packer = [&] { return Packer("a", 4, fmt::format("s{}", session)); };
  SyncAnswer answer = Sync(packer());
  for (int turn = 0; turn < 60 && Counts("s").queued + Counts("s").running > 0; ++turn) {
    if (answer.desired.empty() || std::any_of(answer.desired.begin(), answer.desired.end(), deadly)) {
      ++session;
      Pass(absl::Minutes(3));  // all leases are over, and so is a set-aside
      answer = Sync(packer());
      continue;
    }
    std::set<size_t> all;
    for (size_t i = 0; i < answer.desired.size(); ++i) all.insert(i);
    answer = Report(packer(), answer.desired, all);
  }
  EXPECT_EQ(Counts("s").quarantined, 1);
  EXPECT_EQ(Counts("s").succeeded, 7);
}

// Of a search, with two workers: the second trial's curve is the worse one when it comes to the first rung.
class SearchTest : public SchedulerTest {
 protected:
  SearchTest() {
    SweepNeeds needs;
    needs.search = SearchRules{.curve = "loss", .smaller_is_better = true, .reduction = 2, .min_steps = 10};
    SweepRecord sweep;
    sweep.id = "search";
    sweep.cells = 4;
    sweep.replicates = 1;
    EXPECT_TRUE(scheduler_
                    .OnCreate(
                        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, "",
                        std::make_shared<const SweepNeeds>(std::move(needs)))
                    .ok());
    first_ = Lease("a");
    second_ = Lease("b");
  }
  // The step after which the worker is told to end; `from`: of the points that it has not told yet.
  int64_t Show(const std::string& worker, const DesiredAttempt& attempt, int64_t from, int64_t to, double value) {
    SyncRequest request = Request(worker);
    AttemptReport report = ReportOf(attempt);
    for (int64_t step = from; step <= to; ++step) report.points.push_back({"loss", step, value});
    report.point_sequence = to;
    report.step = to;
    request.attempts.push_back(std::move(report));
    return Sync(request).desired.at(0).finish_after_step;
  }
  int64_t Notes() const {
    return std::count_if(effects_.begin(), effects_.end(),
                         [](const Effect& effect) { return std::holds_alternative<NoteRung>(effect); });
  }
  DesiredAttempt first_, second_;
};

TEST_F(SearchTest, AWorseTrialIsToldToEnd) {
  EXPECT_EQ(Show("a", first_, 1, 12, 1.0), 0);
  EXPECT_EQ(Show("b", second_, 1, 9, 2.0), 0);
  EXPECT_EQ(Show("b", second_, 10, 10, 2.0), 10);
  EXPECT_EQ(Show("b", second_, 10, 10, 2.0), 10) << "until it has ended";
  EXPECT_EQ(Notes(), 2);
}

TEST_F(SearchTest, ItsNextAttemptIsToldToo) {
  Show("a", first_, 1, 10, 1.0);
  Show("b", second_, 1, 10, 2.0);
  Tell("b", second_, Failure{FailureClass::kLostWorker, "a rank went"});
  const SyncAnswer again = Sync(Request("b"));
  ASSERT_EQ(again.desired.size(), 1u);
  EXPECT_EQ(again.desired[0].trial, second_.trial);
  EXPECT_EQ(again.desired[0].finish_after_step, 10);
}

TEST_F(SearchTest, AStudyEndsNobody) {
  Create("study");
  const DesiredAttempt third = Lease("c"), fourth = Lease("d");
  for (const auto& [worker, attempt] : {std::pair("c", third), std::pair("d", fourth)}) {
    if (attempt.sweep_id != "study") continue;
    EXPECT_EQ(Show(worker, attempt, 1, 40, 9.0), 0);
  }
}

TEST_F(SchedulerTest, TrialsOfSeveralDevicesWaitForThem) {
  SweepNeeds needs;
  needs.classes = {{.devices = 2}};
  needs.pack_of_class = {SweepNeeds::kAlone};
  SweepRecord sweep;
  sweep.id = "wide";
  sweep.cells = 2;
  sweep.replicates = 1;
  ASSERT_TRUE(scheduler_
                  .OnCreate(
                      sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, "",
                      std::make_shared<const SweepNeeds>(std::move(needs)))
                  .ok());
  SyncRequest narrow = Request("narrow"), wide = Request("wide");
  narrow.description.abilities.devices = {"cuda:0"};
  EXPECT_TRUE(Sync(narrow).desired.empty());
  EXPECT_EQ(scheduler_.WhyNobodyRuns({.devices = 2}, now_),
            "2 devices for one trial, and connected workers have 1 at most");
  wide.description.abilities.devices = {"cuda:0", "cuda:1"};
  wide.pack_slots = 8;
  EXPECT_EQ(Sync(wide).desired.size(), 1u) << "it has its worker to itself";
}

}  // namespace
}  // namespace loupe::coordinator
