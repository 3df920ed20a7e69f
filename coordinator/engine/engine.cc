#include "coordinator/engine/engine.h"

#include <algorithm>
#include <utility>

#include "common/error_details.h"
#include "common/guarded.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace loupe::coordinator::engine {
namespace {

constexpr absl::Duration kRetryInterval = absl::Seconds(1);
// A job that cannot be carried out must not fail every batch.
constexpr absl::Duration kJobRetryInterval = absl::Seconds(60);
// What a commit with a step of a job in it should take, and the least that a step does.
constexpr absl::Duration kJobTurn = absl::Milliseconds(8);
constexpr int64_t kLeastJobRows = 256;

// How much of the time between two turns counts: short against a lease, long against a turn on a busy machine.
absl::Duration MostPerTurn(absl::Duration lease) {
  return std::clamp(lease / 20, absl::Milliseconds(50), absl::Seconds(1));
}

// Feeds a fresh scheduler from the store.
class SchedulerBuilder final : public store::RecoverySink {
 public:
  SchedulerBuilder(scheduler::Scheduler& scheduler, const Engine::Deps& deps, const scheduler::Now& now)
      : scheduler_(scheduler), deps_(deps), now_(now) {}
  void OnSweep(scheduler::SweepRecord sweep) override {
    absl::StatusOr<scheduler::CellFunctions> cells = scheduler::CellFunctions{};
    if (sweep.has_job(scheduler::JobKind::kCreate) ||
        (sweep.has_job(scheduler::JobKind::kRetry) && !sweep.job->cell_filter.empty())) {
      cells = deps_.cells ? deps_.cells(sweep) : absl::UnimplementedError("nothing here knows the sweep's plan");
      if (!cells.ok()) LogError("work on sweep '{}' waits: {}", sweep.id, std::string(cells.status().message()));
    }
    std::shared_ptr<const scheduler::SweepNeeds> needs = deps_.needs ? deps_.needs(sweep) : nullptr;
    scheduler_.RestoreSweep(std::move(sweep), std::move(cells), std::move(needs));
  }
  void OnTrial(scheduler::SweepKey sweep, const store::TrialSeed& trial) override {
    scheduler_.RestoreTrial(sweep, trial.index, trial.state, trial.epoch, trial.failed_attempts, trial.worker_losses,
                            trial.result_digest);
  }
  void OnInput(scheduler::RecordInput input) override { scheduler_.RestoreInput(input); }
  void OnRung(const scheduler::NoteRung& rung) override { scheduler_.RestoreRung(rung); }
  void OnWorker(scheduler::WorkerRecord worker) override { scheduler_.RestoreWorker(std::move(worker), now_); }
  void OnLiveAttempt(store::LiveAttempt attempt) override {
    scheduler_.RestoreAttempt(attempt.trial, attempt.epoch, attempt.token_sha256, attempt.worker, attempt.session,
                              attempt.point_sequence, std::move(attempt.artifacts), now_);
  }
  void OnRequest(scheduler::RecordRequest request) override { scheduler_.RestoreRequest(std::move(request)); }

 private:
  scheduler::Scheduler& scheduler_;
  const Engine::Deps& deps_;
  const scheduler::Now now_;
};

// An error that speaks of one request's effects, not of the disk: the others of its batch can be tried without it.
bool IsOneRequestsFault(const absl::Status& status) {
  return status.code() == absl::StatusCode::kInternal || status.code() == absl::StatusCode::kAlreadyExists;
}

// Answers are not to throw; one that does costs nobody else his own.
template <typename Answer, typename... Arguments>
void Tell(const Answer& answer, Arguments&&... arguments) {
  const absl::Status failed = Guarded([&] { answer(std::forward<Arguments>(arguments)...); });
  if (!failed.ok()) LogError("an answer was cut off: {}", std::string(failed.message()));
}

// What is asked again when a held call wakes: what the worker holds, without what has been dealt with already.
scheduler::SyncRequest Reminder(const scheduler::SyncRequest& request) {
  scheduler::SyncRequest reminder = request;
  for (scheduler::AttemptReport& report : reminder.attempts) {
    report.points.clear();
    report.outcome = std::monostate{};
  }
  return reminder;
}

}  // namespace

Engine::Engine(const scheduler::SchedulerOptions& options, Deps deps)
    : options_(options),
      deps_(std::move(deps)),
      serving_(*deps_.clock, MostPerTurn(options.lease)),
      job_rows_(std::min(options.job_rows, 4 * kLeastJobRows)) {
  scheduler_ = std::make_unique<scheduler::Scheduler>(options_, *deps_.random);
}

absl::Status Engine::Recover() {
  const scheduler::Now now = ReadClock();
  auto fresh = std::make_unique<scheduler::Scheduler>(options_, *deps_.random);
  SchedulerBuilder builder(*fresh, deps_, now);
  recovered_ = false;
  LOUPE_RETURN_IF_ERROR(deps_.store->Recover(builder));
  scheduler_ = std::move(fresh);
  for (const auto& [worker, parked] : parked_) {
    scheduler_->RestoreAbilities(worker, parked.call.request.description.abilities);
    scheduler_->Park(worker, now);
  }
  recovered_ = true;
  serving_.BeginTurn();  // what it took counts against nobody
  return absl::OkStatus();
}

void Engine::SetHealthy(bool healthy) {
  if (healthy == healthy_) return;
  healthy_ = healthy;
  if (deps_.on_health) deps_.on_health(healthy);
}

int64_t Engine::JobRows() const { return deps_.clock->MonotonicNow() < jobs_wait_until_ ? 0 : job_rows_; }

void Engine::Process(const std::vector<EngineInput>& inputs) {
  const absl::Duration lost = serving_.BeginTurn();
  // Without leases no turn is due, and a coordinator at rest has nothing to say.
  if (lost > options_.lease / 10 && scheduler_->live_attempts() > 0) {
    LogWarning("served nobody for {}: it counts against no lease", absl::FormatDuration(lost));
  }
  std::vector<const EngineInput*> all;
  Outbox outbox;
  absl::Status status = Guarded([&] {
    all.reserve(inputs.size());
    for (const EngineInput& input : inputs) all.push_back(&input);
  });
  if (!status.ok()) {
    for (const EngineInput& input : inputs) RefuseUndecided(input, status);
    return;
  }
  if (!recovered_) status = RecoverGuarded();
  cut_off_ = false;
  if (status.ok()) {
    scheduler_->BeginTurn(JobRows());
    status = TryBatch(all, outbox);
  } else {
    RefuseAll(std::exchange(all, {}), status);
  }
  if (!status.ok()) {
    LogError("{} of {} requests: {}", cut_off_ ? "an exception cut off a turn" : "the store refused a commit",
             inputs.size(), std::string_view(status.message().data(), status.message().size()));
    retry_at_ = deps_.clock->MonotonicNow() + kRetryInterval;
    const bool rebuilt = RecoverGuarded().ok();
    if (rebuilt && (cut_off_ || IsOneRequestsFault(status))) {
      // One request with impossible effects must not fail its neighbours, and neither must a job.
      if (scheduler_->HasWork()) jobs_wait_until_ = deps_.clock->MonotonicNow() + kJobRetryInterval;
      for (const EngineInput* input : all) DecideAlone(*input);
    } else if (cut_off_) {
      RefuseAll(all, status);
      SetHealthy(false);
    } else {
      Refuse(outbox, status);
      SetHealthy(false);
    }
  }
  if (recovered_) {
    const absl::Status failed = Guarded([this] { UpdateWatches(ReadClock()); });
    if (!failed.ok()) LogError("watches wait: {}", std::string(failed.message()));
  }
}

void Engine::DecideAlone(const EngineInput& input) {
  Outbox alone;
  std::vector<const EngineInput*> one;
  absl::Status verdict = recovered_ ? absl::OkStatus() : RecoverGuarded();
  if (verdict.ok()) verdict = Guarded([&] { one.push_back(&input); });
  cut_off_ = !verdict.ok();
  if (verdict.ok()) {
    scheduler_->BeginTurn(0);
    verdict = TryBatch(one, alone);
  }
  if (verdict.ok()) return;
  const bool has_reply = !alone.replies.empty() || !alone.to_park.empty();
  RecoverGuarded().IgnoreError();
  if (cut_off_ && !has_reply && !one.empty()) return RefuseUndecided(input, verdict);
  Refuse(alone, verdict);
}

absl::Status Engine::RecoverGuarded() {
  return Guarded([this] { return Recover(); });
}

absl::Status Engine::TryBatch(std::vector<const EngineInput*>& inputs, Outbox& outbox) {
  const scheduler::Now now = ReadClock();
  scheduler::Effects effects;
  bool work = false;
  const absl::Status decided = Guarded([&] {
    for (const EngineInput* input : inputs) Decide(*input, now, effects, outbox);
    scheduler_->OnTick(now, effects);
    work = scheduler_->Work(now, effects) > 0;
    FollowUp(now, effects, outbox);
  });
  if (!decided.ok()) {
    cut_off_ = true;
    return decided;
  }
  const absl::Duration begun = deps_.clock->MonotonicNow();
  LOUPE_RETURN_IF_ERROR(Commit(effects, work));
  if (!effects.empty()) SetHealthy(true);
  if (deps_.on_commit && !effects.empty()) Tell(deps_.on_commit, effects, deps_.clock->MonotonicNow() - begun);
  for (const Reply& reply : outbox.replies) Tell(reply, absl::OkStatus());
  if (outbox.to_park.empty()) return absl::OkStatus();
  for (SyncCall& call : outbox.to_park) Keep(call, now);
  // Work that was queued in this very batch may fit a call that was parked in it.
  inputs.clear();
  outbox = Outbox{};
  scheduler_->BeginTurn(0);
  return TryBatch(inputs, outbox);
}

void Engine::Keep(SyncCall& call, const scheduler::Now& now) {
  const absl::Status kept = Guarded([&] {
    const std::string worker = call.request.worker;
    const absl::Duration deadline = now.monotonic + std::min(call.max_wait, options_.lease / 3);
    // Two calls of one worker in one batch: the later one is kept.
    if (const auto held = parked_.find(worker); held != parked_.end()) CancelSync(worker, held->second.call.id);
    Hold(call, deadline);
    scheduler_->Park(worker, now);
  });
  // Where it could not be held, it is answered instead; where it is held and cannot be woken, its deadline answers it.
  if (!kept.ok() && call.reply) Tell(call.reply, kept);
}

absl::Status Engine::Commit(const scheduler::Effects& effects, bool with_work) {
  const absl::Duration start = deps_.clock->MonotonicNow();
  LOUPE_RETURN_IF_ERROR(Guarded([&] { return deps_.store->Commit(effects); }));
  if (!with_work) return absl::OkStatus();
  const absl::Duration took = deps_.clock->MonotonicNow() - start;
  job_rows_ = took > kJobTurn ? job_rows_ * 3 / 4 : job_rows_ + job_rows_ / 8;
  job_rows_ = std::clamp(job_rows_, std::min(kLeastJobRows, options_.job_rows), options_.job_rows);
  return absl::OkStatus();
}

void Engine::Refuse(const Outbox& outbox, const absl::Status& status) {
  for (const Reply& reply : outbox.replies) Tell(reply, status);
  for (const SyncCall& call : outbox.to_park) Tell(call.reply, status);
}

void Engine::RefuseUndecided(const EngineInput& input, const absl::Status& status) {
  if (const SyncCall* call = std::get_if<SyncCall>(&input)) Tell(call->reply, status);
  if (const WatchCall* watch = std::get_if<WatchCall>(&input)) Tell(watch->update, status);
}

void Engine::RefuseAll(const std::vector<const EngineInput*>& inputs, const absl::Status& status) {
  for (const EngineInput* input : inputs) {
    Outbox outbox;
    scheduler::Effects thrown_away;
    if (Guarded([&] { Decide(*input, ReadClock(), thrown_away, outbox); }).ok()) {
      Refuse(outbox, status);
    } else {
      RefuseUndecided(*input, status);
    }
  }
}

void Engine::Decide(const EngineInput& input, const scheduler::Now& now, scheduler::Effects& effects, Outbox& outbox) {
  if (const Job* job = std::get_if<Job>(&input)) {
    outbox.replies.push_back((*job)(*scheduler_, now, effects));
  } else if (const SyncCall* call = std::get_if<SyncCall>(&input)) {
    DecideSync(*call, now, effects, outbox);
  } else {
    outbox.replies.push_back([this, watch = std::get<WatchCall>(input)](const absl::Status& durable) {
      if (durable.ok()) {
        watches_.push_back({.call = watch});
      } else {
        watch.update(durable);
      }
    });
  }
}

void Engine::DecideSync(const SyncCall& call, const scheduler::Now& now, scheduler::Effects& effects, Outbox& outbox) {
  absl::StatusOr<scheduler::SyncAnswer> answer = scheduler_->OnSync(call.request, now, effects);
  // A worker has one conversation: an older call that is still held is let go.
  if (answer.ok() && parked_.contains(call.request.worker)) outbox.replies.push_back(LetGo(call.request.worker));
  if (!answer.ok() || answer->news || call.max_wait <= absl::ZeroDuration()) {
    outbox.replies.push_back([reply = call.reply, answer = std::move(answer)](const absl::Status& durable) mutable {
      if (!durable.ok()) answer = durable;
      reply(std::move(answer));
    });
    return;
  }
  SyncCall kept = call;
  kept.request = Reminder(call.request);
  outbox.to_park.push_back(std::move(kept));
}

Reply Engine::LetGo(const std::string& worker) {
  scheduler_->Unpark(worker);
  return [this, worker, id = parked_.at(worker).call.id](const absl::Status&) { CancelSync(worker, id); };
}

void Engine::AnswerParked(const std::string& worker, const scheduler::Now& now, scheduler::Effects& effects,
                          Outbox& outbox) {
  const auto held = parked_.find(worker);
  if (held == parked_.end()) return;
  scheduler_->Unpark(worker);
  absl::StatusOr<scheduler::SyncAnswer> answer = scheduler_->OnSync(held->second.call.request, now, effects);
  outbox.replies.push_back(
      [this, worker, id = held->second.call.id, answer = std::move(answer)](const absl::Status& durable) mutable {
        const auto found = parked_.find(worker);
        // Not durable: the call stays held, and is answered when the store can be written again.
        if (!durable.ok() || found == parked_.end() || found->second.call.id != id) return;
        Release(found)(std::move(answer));
      });
}

void Engine::FollowUp(const scheduler::Now& now, scheduler::Effects& effects, Outbox& outbox) {
  scheduler_->Dispatch(now, effects);
  std::vector<std::string> due = scheduler_->TakeWoken();
  for (const auto& [deadline, worker] : deadlines_) {
    if (deadline > now.monotonic) break;
    due.push_back(worker);
  }
  std::sort(due.begin(), due.end());
  due.erase(std::unique(due.begin(), due.end()), due.end());
  for (const std::string& worker : due) AnswerParked(worker, now, effects, outbox);
}

void Engine::CancelSync(const std::string& worker, uint64_t id) {
  const auto held = parked_.find(worker);
  if (held == parked_.end() || held->second.call.id != id) return;
  scheduler_->Unpark(worker);
  Release(held)(absl::CancelledError("the worker has hung up, or calls again"));
}

void Engine::Hold(SyncCall& call, absl::Duration deadline) {
  const auto place = parked_.try_emplace(call.request.worker).first;
  try {
    deadlines_.emplace(deadline, call.request.worker);
  } catch (...) {
    parked_.erase(place);
    throw;
  }
  place->second = ParkedSync{std::move(call), deadline};
}

std::function<void(absl::StatusOr<scheduler::SyncAnswer>)> Engine::Release(
    std::map<std::string, ParkedSync>::iterator held) {
  auto reply = std::move(held->second.call.reply);
  deadlines_.erase({held->second.deadline, held->first});
  parked_.erase(held);
  return reply;
}

void Engine::CancelAll() {
  auto parked = std::move(parked_);
  parked_.clear();
  deadlines_.clear();
  for (auto& [worker, held] : parked) Tell(held.call.reply, absl::UnavailableError("the coordinator is stopping"));
  auto watches = std::move(watches_);
  watches_.clear();
  for (Watch& watch : watches) Tell(watch.call.update, absl::UnavailableError("the coordinator is stopping"));
}

void Engine::UpdateWatches(const scheduler::Now& now) {
  for (auto it = watches_.begin(); it != watches_.end();) {
    Watch& watch = *it;
    if (now.monotonic < watch.next_update) {
      ++it;
      continue;
    }
    watch.next_update = now.monotonic + kWatchInterval;
    const absl::StatusOr<scheduler::Scheduler::SweepView> view = scheduler_->View(watch.call.sweep_id, now);
    bool more = true;
    if (!view.ok()) {
      watch.call.update(view.status());
      more = false;
    } else if (view->change != watch.seen_change || view->waiting != watch.seen_waiting) {
      watch.seen_change = view->change;
      watch.seen_waiting = view->waiting;
      more = watch.call.update(WatchUpdate{*view->record, view->counts, view->estimated_time_left, view->waiting,
                                           scheduler_->Running(watch.call.sweep_id, now)}) &&
             !scheduler::IsTerminal(view->record->shown_state());
    }
    it = more ? std::next(it) : watches_.erase(it);
  }
}

absl::Duration Engine::NextDeadline() const {
  if (!recovered_) return retry_at_;
  absl::Duration next = scheduler_->NextDeadline();
  if (!deadlines_.empty()) next = std::min(next, deadlines_.begin()->first);
  // Whether a watched sweep has changed is looked at when something happens; a change that came too soon after the last
  // update is shown when its time comes.
  for (const Watch& watch : watches_) next = std::min(next, watch.next_update);
  next = serving_.NextTurn(next);
  if (scheduler_->HasWork()) next = std::min(next, jobs_wait_until_);
  return std::max(next, retry_at_);
}

}  // namespace loupe::coordinator::engine
