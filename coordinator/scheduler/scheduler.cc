#include "coordinator/scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "common/error_details.h"
#include "common/status_macros.h"
#include "coordinator/scheduler/scheduler_parts.h"
#include "fmt/format.h"

namespace loupe::coordinator::scheduler {
namespace {

// Workers in one turn.
constexpr int kMostForgotten = 256;

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, RandomSource& random)
    : options_(options),
      random_(random),
      workers_(options.workers),
      turn_rows_(options.job_rows),
      rows_left_(options.job_rows) {}
Scheduler::~Scheduler() = default;

// ---- Rebuilding
// --------------------------------------------------------------------------------------------------------

void Scheduler::RestoreSweep(SweepRecord record, absl::StatusOr<CellFunctions> cells,
                             std::shared_ptr<const SweepNeeds> needs) {
  static const auto* const kNoNeeds = new std::shared_ptr<const SweepNeeds>(std::make_shared<SweepNeeds>());
  if (needs == nullptr) needs = *kNoNeeds;
  const SweepKey key = record.key;
  next_key_ = std::max(next_key_, key + 1);
  keys_by_id_.emplace(record.id, key);
  Sweep& sweep = *sweeps_.emplace(key, std::make_unique<Sweep>(std::move(record), std::move(needs))).first->second;
  if (!sweep.record.job) return;
  sweep.job_stored = true;
  // Also those that are not stored yet: none runs before all are.
  if (sweep.record.has_job(JobKind::kCreate)) sweep.AddAllFresh();
  if (cells.ok()) {
    sweep.cells = *std::move(cells);
    TakeTurn(sweep);
  } else {
    sweep.record.state_reason = std::string(cells.status().message());
  }
}

void Scheduler::RestoreTrial(SweepKey key, int64_t index, TrialState state, int64_t epoch, int32_t failed_attempts,
                             int32_t worker_losses, uint64_t result_digest) {
  Sweep& sweep = *sweeps_.at(key);
  Trial& trial = sweep.trial(index);
  trial.epoch = static_cast<uint32_t>(epoch);
  trial.failed_attempts = static_cast<uint16_t>(failed_attempts);
  trial.worker_losses = static_cast<uint8_t>(std::min(worker_losses, 255));
  trial.digest = result_digest;
  SetState(sweep, index, state);
  // A trial whose back-off was running is offered at once: the restart was wait enough. What is about to be cancelled
  // is not.
  const bool runs = !sweep.record.job || sweep.record.has_job(JobKind::kRetry);
  if (state == TrialState::kQueued && runs) sweep.queue_of(index).AddFresh(index);
  if (index + 1 == sweep.record.trials()) Reindex(sweep);
}

void Scheduler::RestoreWorker(WorkerRecord worker, const Now& now) {
  workers_.Add(std::move(worker)).last_sync = now.monotonic;
}

void Scheduler::RestoreAbilities(const std::string& worker, const WorkerAbilities& abilities) {
  if (WorkerEntry* entry = workers_.Find(worker); entry != nullptr) entry->record.description.abilities = abilities;
}

void Scheduler::RestoreAttempt(TrialKey trial, int64_t epoch, const std::string& token_sha256,
                               const std::string& worker, const std::string& session, int64_t point_sequence,
                               std::set<std::string> artifacts, const Now& now) {
  auto attempt = std::make_unique<Attempt>();
  attempt->trial = trial;
  attempt->epoch = epoch;
  attempt->token_sha256 = token_sha256;
  attempt->artifacts = std::move(artifacts);
  attempt->worker = worker;
  attempt->session = session;
  attempt->start = attempt->last_progress = now.monotonic;
  attempt->point_sequence = point_sequence;
  attempt->expiry = now.monotonic + options_.lease;
  expiries_.emplace(attempt->expiry, trial);
  if (WorkerEntry* entry = workers_.Find(worker); entry != nullptr) entry->attempts.insert(trial);
  Sweep& sweep = *sweeps_.at(trial.sweep);
  sweep.running.insert(trial.index);
  sweep.running_left += attempt->left;
  attempts_.emplace(trial, std::move(attempt));
  Reindex(sweep);
}

void Scheduler::RestoreRung(const NoteRung& rung) {
  if (options_.mutation == SchedulerOptions::Mutation::kForgetRungs) return;
  const auto found = sweeps_.find(rung.sweep);
  if (found != sweeps_.end() && found->second->early) found->second->early->Restore(rung.note);
}

void Scheduler::RestoreInput(const RecordInput& input) {
  if (const auto sweep = sweeps_.find(input.sweep); sweep != sweeps_.end()) {
    sweep->second->inputs.insert_or_assign(input.name, input.sha256);
  }
}

void Scheduler::RestoreRequest(RecordRequest request) {
  std::string id = request.request_id;
  // A repeat comes within minutes: the oldest are forgotten, however many come.
  requests_in_order_.push_back(id);
  requests_.insert_or_assign(std::move(id), std::move(request));
  while (requests_in_order_.size() > kRememberedRequests) {
    requests_.erase(requests_in_order_.front());
    requests_in_order_.pop_front();
  }
}

// ---- Bookkeeping
// -------------------------------------------------------------------------------------------------------

Scheduler::Sweep* Scheduler::FindSweep(const std::string& id) {
  const auto key = keys_by_id_.find(id);
  return key == keys_by_id_.end() ? nullptr : sweeps_.at(key->second).get();
}

const Scheduler::Sweep* Scheduler::FindSweep(const std::string& id) const {
  const auto key = keys_by_id_.find(id);
  return key == keys_by_id_.end() ? nullptr : sweeps_.at(key->second).get();
}

absl::StatusOr<Scheduler::Sweep*> Scheduler::FindSweepForWrite(const std::string& id, const std::string& etag) {
  Sweep* sweep = FindSweep(id);
  if (sweep == nullptr) return absl::NotFoundError(fmt::format("there is no sweep '{}'", id));
  if (!etag.empty() && etag != fmt::format("{}", sweep->record.revision)) {
    return WithReason(
        absl::AbortedError(fmt::format("sweep '{}' has changed since etag '{}': read it again", id, etag)),
        kReasonEtagMismatch);
  }
  return sweep;
}

absl::StatusOr<const RecordRequest*> Scheduler::FindRequest(const std::string& request_id, const std::string& method,
                                                            const std::string& fingerprint) const {
  if (request_id.empty()) return nullptr;
  const auto found = requests_.find(request_id);
  if (found == requests_.end()) return nullptr;
  if (found->second.method != method || found->second.fingerprint != fingerprint) {
    return absl::InvalidArgumentError(
        fmt::format("request_id '{}' was used before for another request: make a new one per request", request_id));
  }
  return &found->second;
}

void Scheduler::SetState(Sweep& sweep, int64_t index, TrialState state) {
  Trial& trial = sweep.trial(index);
  --sweep.counts.of(trial.state);
  trial.state = state;
  ++sweep.counts.of(state);
  ++sweep.change;
}

void Scheduler::EmitTrial(Sweep& sweep, int64_t index, std::optional<Failure> failure, bool clear_failure,
                          Effects& effects) {
  const Trial& trial = sweep.trial(index);
  effects.push_back(UpdateTrial{.trial = {sweep.record.key, index},
                                .state = trial.state,
                                .epoch = trial.epoch,
                                .failed_attempts = trial.failed_attempts,
                                .worker_losses = trial.worker_losses,
                                .last_failure = std::move(failure),
                                .clear_failure = clear_failure});
}

void Scheduler::EmitSweep(Sweep& sweep, const Now& now, Effects& effects) {
  sweep.record.update_time = now.wall;
  ++sweep.record.revision;
  ++sweep.change;
  effects.push_back(UpdateSweep{sweep.record});
  Reindex(sweep);
}

void Scheduler::Reindex(Sweep& sweep) {
  const bool active = sweep.record.shown_state() == SweepState::kActive;
  const RunnableKey now{-static_cast<int64_t>(sweep.record.priority), static_cast<int64_t>(sweep.running.size()),
                        sweep.last_grant, sweep.record.key};
  const auto key_of = [&](size_t i) { return active && !sweep.queues[i].empty() ? std::optional(now) : std::nullopt; };
  // All old ones go before the new ones come: classes with the same needs share an entry.
  for (size_t i = 0; i < sweep.queues.size(); ++i) {
    if (sweep.runnable_keys[i] && sweep.runnable_keys[i] != key_of(i))
      runnable_[sweep.needs->classes[i]].erase(*sweep.runnable_keys[i]);
  }
  for (size_t i = 0; i < sweep.queues.size(); ++i) {
    sweep.runnable_keys[i] = key_of(i);
    if (sweep.runnable_keys[i]) runnable_[sweep.needs->classes[i]].insert(*sweep.runnable_keys[i]);
  }
  for (size_t i = 0; i < sweep.queues.size(); ++i) {
    if (sweep.runnable_keys[i]) continue;
    const auto found = runnable_.find(sweep.needs->classes[i]);
    if (found != runnable_.end() && found->second.empty()) runnable_.erase(found);
  }
}

void Scheduler::ClearQueue(Sweep& sweep) {
  for (RunQueue& queue : sweep.queues) queue.Clear();
  for (const auto& [index, when] : sweep.delayed) delayed_.erase({when, {sweep.record.key, index}});
  sweep.delayed.clear();
  Reindex(sweep);
}

void Scheduler::CancelRunning(Sweep& sweep, const Now& now, Effects& effects) {
  const std::set<int64_t> running = sweep.running;
  for (const int64_t index : running) {
    Attempt& attempt = *attempts_.at({sweep.record.key, index});
    effects.push_back(EndAttempt{attempt.trial, attempt.epoch, AttemptEnd::kStopped, std::nullopt, now.wall});
    SetState(sweep, index, TrialState::kCancelled);
    EmitTrial(sweep, index, std::nullopt, false, effects);
    Wake(attempt.worker);
    Forget(attempt);
  }
}

void Scheduler::EndSweepIfDone(Sweep& sweep, const Now& now, Effects& effects) {
  if (sweep.record.job || IsTerminal(sweep.record.state) || sweep.counts.queued + sweep.counts.running > 0) return;
  const bool drained_early = sweep.record.state == SweepState::kStopping && sweep.counts.cancelled > 0;
  sweep.record.state = drained_early ? SweepState::kStopped : SweepState::kCompleted;
  sweep.record.end_time = now.wall;
  EmitSweep(sweep, now, effects);
}

// ---- Commands
// ----------------------------------------------------------------------------------------------------------

absl::StatusOr<SweepRecord> Scheduler::OnCreate(SweepRecord record, CellLevelsJson cell_levels_json,
                                                const std::string& request_id, const std::string& fingerprint,
                                                const Now& now, Effects& effects, const std::string& client,
                                                std::shared_ptr<const SweepNeeds> needs) {
  LOUPE_ASSIGN_OR_RETURN(const RecordRequest* earlier, FindRequest(request_id, "CreateSweep", fingerprint));
  if (earlier != nullptr) {
    if (const Sweep* sweep = FindSweep(earlier->sweep_id); sweep != nullptr) return sweep->record;
    return absl::NotFoundError(
        fmt::format("the sweep '{}' that this request created has been deleted since", earlier->sweep_id));
  }
  if (const Sweep* taken = FindSweep(record.id); taken != nullptr) {
    if (taken->record.has_job(JobKind::kDelete)) {
      return absl::AlreadyExistsError(fmt::format(
          "the sweep '{}' is being deleted: wait until it is gone ('loupe status {}' says so), or choose another name",
          record.id, record.id));
    }
    return absl::AlreadyExistsError(
        fmt::format("there is a sweep '{}' already: choose another name, or delete that one first", record.id));
  }
  record.key = next_key_++;
  record.state = SweepState::kActive;
  record.create_time = record.update_time = now.wall;
  record.revision = 1;
  record.job.reset();
  effects.push_back(InsertSweep{record, nullptr});
  if (!request_id.empty()) {
    RecordRequest request{request_id, "CreateSweep", fingerprint, record.id, 0, now.wall};
    effects.push_back(request);
    RestoreRequest(std::move(request));
  }
  RestoreSweep(record, CellFunctions{}, std::move(needs));
  Sweep& sweep = *sweeps_.at(record.key);
  sweep.AddAllFresh();
  StartJob(sweep, {.kind = JobKind::kCreate, .client = client}, {std::move(cell_levels_json), nullptr}, now, effects);
  return sweep.record;
}

absl::StatusOr<SweepRecord> Scheduler::OnVerb(const std::string& sweep_id, SweepVerb verb, const std::string& etag,
                                              const Now& now, Effects& effects, const std::string& client) {
  LOUPE_ASSIGN_OR_RETURN(Sweep* const sweep, FindSweepForWrite(sweep_id, etag));
  const bool ends = verb == SweepVerb::kStop || verb == SweepVerb::kCancel;
  const SweepRecord& record = sweep->record;
  if (record.has_job(JobKind::kDelete) || (ends && record.has_job(JobKind::kCreate))) {
    return absl::FailedPreconditionError(
        fmt::format("sweep '{}' is {}: it cannot be {} now", sweep_id, NameOf(record.shown_state()), NameOf(verb)));
  }
  if (verb == SweepVerb::kCancel && record.has_job(JobKind::kCancel)) return record;
  absl::StatusOr<SweepState> next = Apply(verb, sweep->record.state);
  if (!next.ok()) return Annotate(next.status(), fmt::format("sweep '{}'", sweep_id));
  if (*next == sweep->record.state) return sweep->record;
  sweep->record.state = ends ? SweepState::kStopping : *next;
  sweep->record.state_reason.clear();
  if (verb == SweepVerb::kResume) sweep->failed_since_active = 0;
  if (ends) ClearQueue(*sweep);
  if (verb == SweepVerb::kCancel) CancelRunning(*sweep, now, effects);
  EmitSweep(*sweep, now, effects);
  if (ends) {
    const JobKind kind = verb == SweepVerb::kStop ? JobKind::kStop : JobKind::kCancel;
    StartJob(*sweep, {.kind = kind, .client = client}, {}, now, effects);
  }
  return sweep->record;
}

absl::Status Scheduler::OnDelete(const std::string& sweep_id, bool force, const std::string& etag, const Now& now,
                                 Effects& effects, const std::string& client) {
  LOUPE_ASSIGN_OR_RETURN(Sweep* const sweep, FindSweepForWrite(sweep_id, etag));
  if (sweep->record.has_job(JobKind::kDelete)) return absl::OkStatus();
  if (!IsTerminal(sweep->record.state) && !force) {
    return absl::FailedPreconditionError(fmt::format("sweep '{}' is {}: cancel it first, or delete it with force",
                                                     sweep_id, NameOf(sweep->record.shown_state())));
  }
  ClearQueue(*sweep);
  CancelRunning(*sweep, now, effects);
  ++sweep->change;
  StartJob(*sweep, {.kind = JobKind::kDelete, .client = client}, {}, now, effects);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Scheduler::OnRetry(const std::string& sweep_id, const std::set<TrialState>& states,
                                           const std::function<bool(int64_t)>& cell_matches,
                                           const std::string& request_id, const std::string& fingerprint,
                                           const Now& now, Effects& effects, const std::string& cell_filter,
                                           const std::string& client) {
  LOUPE_ASSIGN_OR_RETURN(const RecordRequest* earlier, FindRequest(request_id, "RetryTrials", fingerprint));
  if (earlier != nullptr) return earlier->answer;
  LOUPE_ASSIGN_OR_RETURN(Sweep* const sweep, FindSweepForWrite(sweep_id, ""));
  if (sweep->record.state == SweepState::kStopping) {
    return absl::FailedPreconditionError(fmt::format("sweep '{}' is stopping: wait until it has stopped", sweep_id));
  }
  if (sweep->record.job) {
    return absl::FailedPreconditionError(fmt::format("sweep '{}' is {}: try again when that is done", sweep_id,
                                                     sweep->record.has_job(JobKind::kRetry)
                                                         ? "queuing trials for an earlier retry"
                                                         : NameOf(sweep->record.shown_state())));
  }
  SweepJob job{.kind = JobKind::kRetry, .states = states, .cell_filter = cell_filter, .client = client};
  const int64_t retried = MarkTrialsToRetry(*sweep, job, cell_matches);
  if (retried > 0) {
    if (IsTerminal(sweep->record.state)) {
      sweep->record.state = SweepState::kActive;
      sweep->record.end_time.reset();
    }
    sweep->failed_since_active = 0;
    EmitSweep(*sweep, now, effects);
    StartJob(*sweep, std::move(job), {nullptr, cell_matches}, now, effects);
  }
  if (!request_id.empty()) {
    RecordRequest request{request_id, "RetryTrials", fingerprint, sweep_id, retried, now.wall};
    effects.push_back(request);
    RestoreRequest(std::move(request));
  }
  return retried;
}

absl::Status Scheduler::OnDrain(const std::string& worker, bool draining, const Now& now, Effects& effects) {
  WorkerEntry* entry = workers_.Find(worker);
  if (entry == nullptr) return absl::NotFoundError(fmt::format("there is no worker '{}'", worker));
  if (entry->record.draining == draining) return absl::OkStatus();
  entry->record.draining = draining;
  effects.push_back(UpsertWorker{entry->record});
  workers_.Reconsider(*entry, now.monotonic);
  Wake(worker);
  return absl::OkStatus();
}

// ---- Time
// --------------------------------------------------------------------------------------------------------------

void Scheduler::OnTick(const Now& now, Effects& effects) {
  while (!expiries_.empty() && expiries_.begin()->first <= now.monotonic) {
    Attempt& attempt = *attempts_.at(expiries_.begin()->second);
    ++counters_.leases_expired;
    const std::string worker = attempt.worker;
    Lose(attempt, fmt::format("worker '{}' was silent for {}", worker, absl::FormatDuration(options_.lease)), now,
         effects);
  }
  while (!delayed_.empty() && delayed_.begin()->first <= now.monotonic) {
    const TrialKey trial = delayed_.begin()->second;
    delayed_.erase(delayed_.begin());
    Sweep& sweep = *sweeps_.at(trial.sweep);
    sweep.delayed.erase(trial.index);
    sweep.queue_of(trial.index).AddAgain(trial.index);
    Reindex(sweep);
  }
  workers_.Tick(now.monotonic);
  for (int forgotten = 0; forgotten < kMostForgotten; ++forgotten) {
    const WorkerEntry* worker = workers_.Forgettable(now.monotonic, now.wall, options_.lease);
    if (worker == nullptr) break;
    const std::string id = worker->record.id;
    effects.push_back(ForgetWorker{id});
    workers_.Forget(id);
  }
}

absl::Duration Scheduler::NextDeadline() const {
  absl::Duration next = workers_.NextDeadline();
  if (!expiries_.empty()) next = std::min(next, expiries_.begin()->first);
  if (!delayed_.empty()) next = std::min(next, delayed_.begin()->first);
  return next;
}

// ---- Looking
// -----------------------------------------------------------------------------------------------------------

absl::StatusOr<Scheduler::SweepView> Scheduler::View(const std::string& sweep_id, const Now& now) const {
  const Sweep* sweep = FindSweep(sweep_id);
  if (sweep == nullptr) return absl::NotFoundError(fmt::format("there is no sweep '{}'", sweep_id));
  SweepView view{&sweep->record, sweep->counts, sweep->change, std::nullopt, {}};
  for (size_t i = 0; i < sweep->queues.size(); ++i) AddWaiting(*sweep, i, now, view.waiting);
  if (sweep->record.has_job(JobKind::kDelete)) {
    view.counts = {};
  } else if (IsTerminal(sweep->record.state)) {
    view.estimated_time_left = absl::ZeroDuration();
  } else if (const std::optional<double> seconds = MedianSeconds(*sweep); seconds && view.waiting.empty()) {
    const int64_t slots = FleetAt(now).slots;
    const double left = static_cast<double>(sweep->counts.queued) + 0.5 * static_cast<double>(sweep->counts.running);
    if (slots > 0) view.estimated_time_left = absl::Seconds(*seconds * left / static_cast<double>(slots));
  }
  return view;
}

std::vector<RunningAttempt> Scheduler::Running(const std::string& sweep_id, const Now& now) const {
  std::vector<RunningAttempt> running;
  const Sweep* sweep = FindSweep(sweep_id);
  if (sweep == nullptr) return running;
  for (const int64_t index : sweep->running) {
    const Attempt& attempt = *attempts_.at({sweep->record.key, index});
    running.push_back({.trial = attempt.trial,
                       .worker = attempt.worker,
                       .epoch = attempt.epoch,
                       .phase = attempt.phase,
                       .step = attempt.step,
                       .total_steps = attempt.total_steps,
                       .pack = attempt.pack,
                       .metrics = attempt.metrics,
                       .elapsed = now.monotonic - attempt.start});
  }
  return running;
}

}  // namespace loupe::coordinator::scheduler
