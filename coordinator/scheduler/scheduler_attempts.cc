// How attempts end, and what becomes of their trials.
#include <algorithm>
#include <bit>
#include <utility>

#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/scheduler_parts.h"
#include "fmt/format.h"

namespace loupe::coordinator::scheduler {
namespace {

constexpr size_t kRememberedDurations = 101;
constexpr int kMaxRefusedInARow = 3;
constexpr uint64_t kFnvPrime = 0x100000001b3ULL;

void Mix(uint64_t& hash, std::string_view bytes) {
  for (const char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * kFnvPrime;
}

absl::Duration BackoffAfter(const RetryLimits& limits, int failures) {
  return std::min(kMaxBackoff, limits.backoff * (int64_t{1} << std::min(failures - 1, 20)));
}

}  // namespace

uint64_t DigestOf(const Result& result) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const auto& [name, value] : result.scores) {
    Mix(hash, name);
    uint64_t bits = std::bit_cast<uint64_t>(value);
    for (int i = 0; i < 8; ++i, bits >>= 8) hash = (hash ^ (bits & 0xff)) * kFnvPrime;
  }
  return hash;
}

void Scheduler::Forget(Attempt& attempt) {
  const TrialKey trial = attempt.trial;
  expiries_.erase({attempt.expiry, trial});
  if (WorkerEntry* worker = workers_.Find(attempt.worker); worker != nullptr) worker->attempts.erase(trial);
  Sweep& sweep = *sweeps_.at(trial.sweep);
  sweep.running.erase(trial.index);
  sweep.running_left -= attempt.left;
  ++sweep.change;
  attempts_.erase(trial);
  Reindex(sweep);
}

void Scheduler::Requeue(Sweep& sweep, int64_t index, absl::Duration not_before, const Now& now) {
  if (not_before <= now.monotonic) {
    sweep.queue_of(index).AddAgain(index);
  } else {
    sweep.delayed.emplace(index, not_before);
    delayed_.emplace(not_before, TrialKey{sweep.record.key, index});
  }
  Reindex(sweep);
}

void Scheduler::CountOutcome(const WorkerEntry& worker, Effects& effects) {
  effects.push_back(
      CountWorker{worker.record.id, worker.record.succeeded, worker.record.failed, worker.record.last_seen});
}

void Scheduler::Accept(Attempt& attempt, Result result, const Now& now, Effects& effects) {
  Sweep& sweep = *sweeps_.at(attempt.trial.sweep);
  const int64_t index = attempt.trial.index;
  const uint64_t digest = DigestOf(result);
  sweep.trial(index).digest = digest;
  sweep.durations.push_back(result.total_seconds);
  if (sweep.durations.size() > kRememberedDurations) sweep.durations.pop_front();
  if (WorkerEntry* worker = workers_.Find(attempt.worker); worker != nullptr) {
    workers_.OnSuccess(*worker);
    ++worker->record.succeeded;
    CountOutcome(*worker, effects);
  }
  ++counters_.results_accepted;
  effects.push_back(EndAttempt{attempt.trial, attempt.epoch, AttemptEnd::kSucceeded, std::nullopt, now.wall});
  effects.push_back(AcceptResult{attempt.trial, attempt.epoch, digest, std::move(result), now.wall});
  SetState(sweep, index, TrialState::kSucceeded);
  EmitTrial(sweep, index, std::nullopt, false, effects);
  Forget(attempt);
  EndSweepIfDone(sweep, now, effects);
}

void Scheduler::RefuseInputs(Attempt& attempt, const std::string& why, const Now& now, Effects& effects) {
  Sweep& sweep = *sweeps_.at(attempt.trial.sweep);
  const int64_t index = attempt.trial.index;
  const Failure failure{FailureClass::kRetryable, why};
  effects.push_back(EndAttempt{attempt.trial, attempt.epoch, AttemptEnd::kFailed, failure, now.wall});
  const bool draining = sweep.record.state == SweepState::kStopping;
  SetState(sweep, index, draining ? TrialState::kCancelled : TrialState::kQueued);
  EmitTrial(sweep, index, failure, false, effects);
  Forget(attempt);
  ++sweep.refused_in_a_row;
  if (!draining) Requeue(sweep, index, now.monotonic + BackoffAfter(sweep.record.limits, sweep.refused_in_a_row), now);
  if (sweep.refused_in_a_row >= kMaxRefusedInARow && sweep.record.state == SweepState::kActive) {
    sweep.refused_in_a_row = 0;
    sweep.record.state = SweepState::kPaused;
    sweep.record.state_reason =
        fmt::format("{} results in a row were refused: {}; then resume", kMaxRefusedInARow, why);
    EmitSweep(sweep, now, effects);
  }
  EndSweepIfDone(sweep, now, effects);
}

void Scheduler::Fail(Attempt& attempt, Failure failure, const Now& now, Effects& effects) {
  Sweep& sweep = *sweeps_.at(attempt.trial.sweep);
  const int64_t index = attempt.trial.index;
  Trial& trial = sweep.trial(index);
  if (WorkerEntry* worker = workers_.Find(attempt.worker); worker != nullptr) {
    ++worker->record.failed;
    CountOutcome(*worker, effects);
  }
  effects.push_back(EndAttempt{attempt.trial, attempt.epoch, AttemptEnd::kFailed, failure, now.wall});
  ++trial.failed_attempts;
  const bool again = failure.failure_class == FailureClass::kRetryable &&
                     trial.failed_attempts < sweep.record.limits.max_trial_attempts;
  const bool draining = sweep.record.state == SweepState::kStopping;
  SetState(sweep, index, again ? (draining ? TrialState::kCancelled : TrialState::kQueued) : TrialState::kFailed);
  EmitTrial(sweep, index, std::move(failure), false, effects);
  Forget(attempt);
  if (again && !draining) {
    Requeue(sweep, index, now.monotonic + BackoffAfter(sweep.record.limits, trial.failed_attempts), now);
  }
  if (trial.state == TrialState::kFailed) {
    ++sweep.failed_since_active;
    const int32_t limit = sweep.record.limits.max_failed_trials;
    if (limit > 0 && sweep.failed_since_active >= limit && sweep.record.state == SweepState::kActive) {
      sweep.record.state = SweepState::kPaused;
      sweep.record.state_reason = fmt::format(
          "{} trials failed (the sweep's limit): look at their failures, then resume", sweep.failed_since_active);
      EmitSweep(sweep, now, effects);
    }
  }
  EndSweepIfDone(sweep, now, effects);
}

void Scheduler::Lose(Attempt& attempt, const std::string& why, const Now& now, Effects& effects) {
  Sweep& sweep = *sweeps_.at(attempt.trial.sweep);
  const int64_t index = attempt.trial.index;
  Trial& trial = sweep.trial(index);
  const Failure failure{FailureClass::kLostWorker, why};
  effects.push_back(EndAttempt{attempt.trial, attempt.epoch, AttemptEnd::kLost, failure, now.wall});
  if (trial.worker_losses < 255) ++trial.worker_losses;
  const bool poison = trial.worker_losses >= sweep.record.limits.max_worker_losses;
  const bool draining = sweep.record.state == SweepState::kStopping;
  SetState(sweep, index, poison ? TrialState::kQuarantined : (draining ? TrialState::kCancelled : TrialState::kQueued));
  EmitTrial(sweep, index, failure, false, effects);
  const std::string worker_id = attempt.worker, session = attempt.session;
  Forget(attempt);
  if (trial.state == TrialState::kQueued) Requeue(sweep, index, now.monotonic, now);
  if (WorkerEntry* worker = workers_.Find(worker_id); worker != nullptr) {
    workers_.OnLoss(*worker, session, now.monotonic);
    workers_.Reconsider(*worker, now.monotonic);
  }
  Wake(worker_id);
  EndSweepIfDone(sweep, now, effects);
}

void Scheduler::GiveBack(Attempt& attempt, const Now& now, Effects& effects) {
  Sweep& sweep = *sweeps_.at(attempt.trial.sweep);
  const int64_t index = attempt.trial.index;
  effects.push_back(EndAttempt{attempt.trial, attempt.epoch, AttemptEnd::kStopped, std::nullopt, now.wall});
  const bool draining = sweep.record.state == SweepState::kStopping;
  SetState(sweep, index, draining ? TrialState::kCancelled : TrialState::kQueued);
  EmitTrial(sweep, index, std::nullopt, false, effects);
  Forget(attempt);
  if (!draining) Requeue(sweep, index, now.monotonic, now);
  EndSweepIfDone(sweep, now, effects);
}

}  // namespace loupe::coordinator::scheduler
