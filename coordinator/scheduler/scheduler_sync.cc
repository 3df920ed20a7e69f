// The worker protocol: what a worker's message means, and what it should be running.
#include <algorithm>
#include <utility>

#include "common/error_details.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/scheduler_parts.h"
#include "fmt/format.h"

namespace loupe::coordinator::scheduler {
namespace {

// Of one attempt: what it shows at a time must fit a message, and be read by people.
constexpr size_t kMaxMetrics = 256;
constexpr size_t kMaxArtifacts = 1000;

absl::Status LeaseLost(const LeaseClaim& claim) {
  return WithReason(
      absl::AbortedError(fmt::format("the lease on trial {} of sweep '{}' (attempt {}) is no longer held: drop it",
                                     claim.index, claim.sweep_id, claim.epoch)),
      kReasonLeaseLost);
}

}  // namespace

const Scheduler::Attempt* Scheduler::FindLive(const LeaseClaim& claim) const {
  const auto key = keys_by_id_.find(claim.sweep_id);
  if (key == keys_by_id_.end()) return nullptr;
  const auto found = attempts_.find({key->second, claim.index});
  if (found == attempts_.end()) return nullptr;
  const Attempt& attempt = *found->second;
  if (attempt.epoch != claim.epoch && options_.mutation != SchedulerOptions::Mutation::kForgetEpoch) return nullptr;
  const bool check_token = options_.mutation == SchedulerOptions::Mutation::kNone ||
                           options_.mutation == SchedulerOptions::Mutation::kDoubleLease;
  if (check_token && Sha256Hex(claim.token_hex) != attempt.token_sha256) return nullptr;
  return &attempt;
}

Scheduler::Attempt* Scheduler::FindLive(const LeaseClaim& claim) {
  return const_cast<Attempt*>(static_cast<const Scheduler*>(this)->FindLive(claim));
}

absl::StatusOr<TrialKey> Scheduler::CheckLease(const LeaseClaim& claim) const {
  const Attempt* attempt = FindLive(claim);
  if (attempt == nullptr) return LeaseLost(claim);
  return attempt->trial;
}

absl::Status Scheduler::OnArtifact(const LeaseClaim& claim, ArtifactRecord artifact, Effects& effects) {
  Attempt* attempt = FindLive(claim);
  if (attempt == nullptr) {
    ++counters_.stale_writes_refused;
    return LeaseLost(claim);
  }
  if (attempt->artifacts.size() >= kMaxArtifacts && !attempt->artifacts.contains(artifact.name)) {
    return absl::FailedPreconditionError(fmt::format("an attempt may hand over {} artifacts at most", kMaxArtifacts));
  }
  artifact.epoch = claim.epoch;
  attempt->artifacts.insert(artifact.name);
  effects.push_back(RecordArtifact{attempt->trial, std::move(artifact)});
  return absl::OkStatus();
}

// The worker's entry after its name and session have been checked. A new session of a known name is a new process: what
// the old one held is lost.
absl::StatusOr<WorkerEntry*> Scheduler::Admit(const SyncRequest& request, const Now& now, Effects& effects) {
  WorkerEntry* worker = workers_.Find(request.worker);
  if (worker == nullptr) {
    WorkerRecord record;
    record.id = request.worker;
    record.session = request.session;
    record.first_seen = record.last_seen = now.wall;
    record.slots = request.slots;
    record.description = request.description;
    worker = &workers_.Add(record);
    effects.push_back(UpsertWorker{std::move(record)});
  } else if (worker->record.session != request.session) {
    auto& past = worker->record.past_sessions;
    if (std::find(past.begin(), past.end(), request.session) != past.end()) {
      return WithReason(absl::AbortedError(fmt::format(
                            "a newer process has taken the name of worker '{}': this one must stop", request.worker)),
                        kReasonSessionSuperseded);
    }
    const std::set<TrialKey> held = worker->attempts;
    for (const TrialKey& trial : held) {
      Lose(*attempts_.at(trial), fmt::format("worker '{}' was restarted", request.worker), now, effects);
    }
    past.push_back(std::exchange(worker->record.session, request.session));
    if (past.size() > kRememberedSessions) past.erase(past.begin());
    worker->record.slots = request.slots;
    worker->record.description = request.description;
    effects.push_back(UpsertWorker{worker->record});
  } else if (worker->record.slots != request.slots || !(worker->record.description == request.description)) {
    worker->record.slots = request.slots;
    worker->record.description = request.description;
    effects.push_back(UpsertWorker{worker->record});
  }
  workers_.See(*worker, now.monotonic, now.wall);
  if (absl::AbsDuration(now.wall - worker->seen_stored) >= kSeenInterval) {
    worker->seen_stored = now.wall;
    CountOutcome(*worker, effects);
  }
  worker->record.pack_slots = request.pack_slots;
  if (!request.attempts.empty()) worker->gathers = false;
  worker->complete = false;
  worker->leaving = request.draining;
  fleet_.reset();
  return worker;
}

int64_t Scheduler::FinishAfter(const TrialKey& trial) const {
  const Sweep& sweep = *sweeps_.at(trial.sweep);
  return sweep.early ? sweep.early->FinishAfter(trial.index) : 0;
}

void Scheduler::Renew(Attempt& attempt, const Now& now) {
  expiries_.erase({attempt.expiry, attempt.trial});
  attempt.expiry = now.monotonic + options_.lease;
  expiries_.emplace(attempt.expiry, attempt.trial);
}

bool Scheduler::NoteProgress(Attempt& attempt, const AttemptReport& report, const Now& now, Effects& effects) {
  // Of `points` only those after the last acknowledged one are new: a repeated message adds nothing.
  const int64_t known = std::max<int64_t>(
      0, attempt.point_sequence - (report.point_sequence - static_cast<int64_t>(report.points.size())));
  if (report.point_sequence > attempt.point_sequence && known < static_cast<int64_t>(report.points.size())) {
    AppendPoints append{
        attempt.trial, attempt.epoch, {report.points.begin() + known, report.points.end()}, report.point_sequence};
    Sweep& sweep = *sweeps_.at(attempt.trial.sweep);
    for (const MetricPoint& point : append.points) {
      attempt.metrics[point.metric] = point.value;
      if (!sweep.early || point.metric != sweep.early->rules().curve) continue;
      const std::optional<RungNote> note = sweep.early->OnPoint(attempt.trial.index, point.step, point.value);
      if (note) effects.push_back(NoteRung{attempt.trial.sweep, *note});
    }
    if (attempt.metrics.size() > kMaxMetrics) return false;
    effects.push_back(std::move(append));
    attempt.point_sequence = report.point_sequence;
    attempt.last_progress = now.monotonic;
    ++sweeps_.at(attempt.trial.sweep)->change;
  }
  if (attempt.phase != report.phase || attempt.step != report.step) {
    attempt.phase = report.phase;
    attempt.step = report.step;
    attempt.last_progress = now.monotonic;
    ++sweeps_.at(attempt.trial.sweep)->change;
  }
  if (attempt.pack != report.pack) {
    // That a trial has company is no progress of its own.
    attempt.pack = report.pack;
    ++sweeps_.at(attempt.trial.sweep)->change;
  }
  attempt.total_steps = report.total_steps;
  NoteWorkLeft(attempt);
  return true;
}

Verdict Scheduler::RefuseStale(const AttemptReport& report, Effects& effects) {
  const LeaseClaim& claim = report.lease;
  Sweep* sweep = FindSweep(claim.sweep_id);
  const Result* result = std::get_if<Result>(&report.outcome);
  if (sweep != nullptr && result != nullptr && claim.index >= 0 && claim.index < sweep->record.trials()) {
    const Trial& trial = sweep->trial(claim.index);
    // The answer to this very completion was lost on the way: say again that it is accepted.
    if (trial.state == TrialState::kSucceeded && trial.epoch == claim.epoch && trial.digest == DigestOf(*result)) {
      return {absl::OkStatus(), report.point_sequence, ""};
    }
    effects.push_back(KeepSupersededResult{{sweep->record.key, claim.index}, claim.epoch, claim.token_hex, *result});
  }
  ++counters_.stale_writes_refused;
  return {LeaseLost(claim), 0, ""};
}

absl::Status Scheduler::HandleResult(Attempt& attempt, const Result& result, const ResultExaminer& examine,
                                     const Now& now, Effects& effects) {
  const auto missing = std::find_if(result.artifacts.begin(), result.artifacts.end(),
                                    [&](const std::string& name) { return !attempt.artifacts.contains(name); });
  if (missing != result.artifacts.end()) {
    Fail(attempt,
         {FailureClass::kRetryable, fmt::format("the result names the artifact '{}', which has not arrived", *missing)},
         now, effects);
    return absl::OkStatus();
  }
  Sweep& sweep = *sweeps_.at(attempt.trial.sweep);
  absl::StatusOr<Result> examined = examine ? examine(sweep.record, attempt.trial.index, result) : result;
  if (!examined.ok()) {
    Fail(attempt, {FailureClass::kUserError, std::string(examined.status().message())}, now, effects);
    return absl::OkStatus();
  }
  for (const auto& [name, sha256] : examined->inputs) {
    const auto agreed = sweep.inputs.find(name);
    if (agreed == sweep.inputs.end() || agreed->second == sha256) continue;
    const std::string why = fmt::format(
        "the files of '{}' differ from those of this sweep's accepted results (SHA-256 {}… now, {}… then): they were replaced, or "
        "differ between machines; put back the files that the sweep began with, or start a new sweep",
        name, sha256.substr(0, 12), agreed->second.substr(0, 12));
    RefuseInputs(attempt, why, now, effects);
    return WithReason(absl::AbortedError(why), kReasonInputsDiffer);
  }
  for (const auto& [name, sha256] : examined->inputs) {
    if (sweep.inputs.emplace(name, sha256).second) effects.push_back(RecordInput{attempt.trial.sweep, name, sha256});
  }
  sweep.refused_in_a_row = 0;
  Accept(attempt, *std::move(examined), now, effects);
  return absl::OkStatus();
}

Verdict Scheduler::HandleReport(WorkerEntry& worker, const AttemptReport& report, const ResultExaminer& examine,
                                const Now& now, std::set<TrialKey>& running, Effects& effects) {
  Attempt* attempt = FindLive(report.lease);
  const bool own =
      attempt != nullptr && attempt->worker == worker.record.id && attempt->session == worker.record.session;
  if (!own && !(attempt != nullptr && options_.mutation == SchedulerOptions::Mutation::kSkipTokenCheck)) {
    return RefuseStale(report, effects);
  }
  if (!attempt->token) attempt->token = TokenFromHex(report.lease.token_hex);
  const std::string uid = sweeps_.at(attempt->trial.sweep)->record.uid;
  if (!NoteProgress(*attempt, report, now, effects)) {
    Fail(*attempt,
         {FailureClass::kUserError, fmt::format("the trial reports more than {} different metrics", kMaxMetrics)}, now,
         effects);
    return {LeaseLost(report.lease), 0, uid};
  }
  Verdict good{absl::OkStatus(), attempt->point_sequence, uid};
  if (const Result* result = std::get_if<Result>(&report.outcome)) {
    if (absl::Status refused = HandleResult(*attempt, *result, examine, now, effects); !refused.ok())
      return {refused, 0, uid};
  } else if (const Failure* failure = std::get_if<Failure>(&report.outcome)) {
    if (failure->failure_class == FailureClass::kLostWorker) {
      Lose(*attempt, failure->message, now, effects);
    } else {
      Fail(*attempt, *failure, now, effects);
    }
  } else if (std::holds_alternative<Stopped>(report.outcome)) {
    GiveBack(*attempt, now, effects);
  } else if (now.monotonic - attempt->last_progress > options_.progress_timeout) {
    Fail(*attempt,
         {FailureClass::kRetryable,
          fmt::format("no progress for {} in phase '{}' at step {}", absl::FormatDuration(options_.progress_timeout),
                      report.phase, report.step)},
         now, effects);
    return {LeaseLost(report.lease), 0, uid};
  } else {
    running.insert(attempt->trial);
  }
  return good;
}

bool Scheduler::GrantOne(WorkerEntry& worker, const Now& now, Effects& effects) {
  if (!workers_.CanTakeMore(worker, now.monotonic)) return false;
  const bool any_will_do = static_cast<int64_t>(worker.attempts.size()) < worker.record.slots;
  const std::optional<Next> next = any_will_do ? NextFor(worker) : NextForPack(worker);
  if (!next) return false;
  if (!any_will_do && !IsWithinShare(worker, *next, now)) return false;
  if (worker.attempts.empty()) worker.gathers = true;
  Sweep& sweep = *next->sweep;
  const int64_t index = *sweep.queues[next->of_class].Pop();
  Trial& trial = sweep.trial(index);
  const TrialKey key{sweep.record.key, index};

  auto attempt = std::make_unique<Attempt>();
  attempt->trial = key;
  attempt->epoch = ++trial.epoch;
  attempt->token = random_.NextToken();
  attempt->token_sha256 = Sha256Hex(ToHex(*attempt->token));
  attempt->worker = worker.record.id;
  attempt->session = worker.record.session;
  attempt->start = attempt->last_progress = now.monotonic;
  attempt->expiry = now.monotonic + options_.lease;

  SetState(sweep, index, TrialState::kRunning);
  EmitTrial(sweep, index, std::nullopt, false, effects);
  effects.push_back(
      StartAttempt{key, attempt->epoch, attempt->token_sha256, attempt->worker, attempt->session, now.wall});
  expiries_.emplace(attempt->expiry, key);
  worker.attempts.insert(key);
  sweep.running.insert(index);
  sweep.running_left += attempt->left;
  attempts_[key] = std::move(attempt);
  sweep.last_grant = ++grant_sequence_;
  if (options_.mutation == SchedulerOptions::Mutation::kDoubleLease && trial.epoch == 1)
    sweep.queue_of(index).AddAgain(index);
  Reindex(sweep);
  ++counters_.leases_granted;
  return true;
}

absl::StatusOr<SyncAnswer> Scheduler::OnSync(const SyncRequest& request, const Now& now, Effects& effects) {
  LOUPE_ASSIGN_OR_RETURN(WorkerEntry* const worker, Admit(request, now, effects));
  SyncAnswer answer;
  std::set<TrialKey> reported;
  for (const AttemptReport& report : request.attempts) {
    answer.verdicts.push_back(HandleReport(*worker, report, request.examine, now, reported, effects));
    answer.news |= !answer.verdicts.back().status.ok() || report.outcome.index() != 0;
  }
  if (request.draining) {
    // A worker on its way out takes nothing: what it does not report, because the answer that offered it came too late
    // or never, goes back to the queue at once.
    const std::set<TrialKey> held = worker->attempts;
    for (const TrialKey& trial : held) {
      if (!reported.contains(trial)) GiveBack(*attempts_.at(trial), now, effects);
    }
  }
  // Every lease of this session is renewed, also one that the worker does not know of yet: the answer tells it again.
  // One that it never takes up does not live for ever by that. Of one that was granted before a restart the token is
  // known only to the worker that got it: if it does not report it, nobody can.
  const std::set<TrialKey> kept = worker->attempts;
  for (const TrialKey& trial : kept) {
    Attempt& attempt = *attempts_.at(trial);
    if (!attempt.token) {
      GiveBack(attempt, now, effects);
    } else if (!reported.contains(trial) && now.monotonic - attempt.last_progress > options_.progress_timeout) {
      Lose(attempt, fmt::format("worker '{}' never took it up", request.worker), now, effects);
    } else {
      Renew(attempt, now);
    }
  }
  while (GrantOne(*worker, now, effects)) {
  }
  for (const TrialKey& trial : worker->attempts) {
    const Attempt& attempt = *attempts_.at(trial);
    const SweepRecord& sweep = sweeps_.at(trial.sweep)->record;
    answer.desired.push_back({.trial = trial,
                              .sweep_id = sweep.id,
                              .epoch = attempt.epoch,
                              .token = *attempt.token,
                              .sweep_uid = sweep.uid,
                              .cell = CellOf(sweep, trial.index),
                              .replicate = ReplicateOf(sweep, trial.index),
                              .sweep_seed = sweep.seed,
                              .finish_after_step = FinishAfter(trial)});
    answer.news |= answer.desired.back().finish_after_step > 0;
    answer.news |= !reported.contains(trial);
  }
  answer.lease = options_.lease;
  answer.next_sync_after =
      worker->attempts.empty() ? absl::ZeroDuration() : std::min(options_.report_interval, options_.lease / 4);
  answer.draining = worker->record.draining;
  woken_.erase(request.worker);
  return answer;
}

void Scheduler::Park(const std::string& id, const Now& now) {
  WorkerEntry* worker = workers_.Find(id);
  if (worker == nullptr) return;
  fleet_.reset();
  workers_.Park(*worker);
  workers_.Reconsider(*worker, now.monotonic);
}

void Scheduler::Unpark(const std::string& id) {
  fleet_.reset();
  if (WorkerEntry* worker = workers_.Find(id); worker != nullptr) workers_.Unpark(*worker);
}

void Scheduler::Wake(const std::string& id) {
  if (const WorkerEntry* worker = workers_.Find(id); worker != nullptr && worker->parked) woken_.insert(id);
}

void Scheduler::Dispatch(const Now& now, Effects& effects) {
  while (!runnable_.empty()) {
    WorkerEntry* worker = workers_.LongestWaiting(
        now.monotonic, [this](const WorkerAbilities& abilities) { return HasWorkFor(abilities); });
    if (worker == nullptr) return;
    if (GrantOne(*worker, now, effects)) {
      Wake(worker->record.id);
    } else {
      // Nothing that is left fits what it has: its pack is complete.
      if (worker->attempts.empty()) return;
      worker->complete = true;
    }
    workers_.Reconsider(*worker, now.monotonic);
  }
}

std::vector<std::string> Scheduler::TakeWoken() {
  std::vector<std::string> woken(woken_.begin(), woken_.end());
  woken_.clear();
  return woken;
}

}  // namespace loupe::coordinator::scheduler
