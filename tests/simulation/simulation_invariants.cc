// What must hold (simulator.h), in every answer, after every restart and at the end.
#include <algorithm>

#include "tests/simulation/mixed_needs.h"
#include "tests/simulation/simulation.h"

namespace loupe::simulation {

void Simulation::CheckAnswer(const coordinator::scheduler::SyncRequest& request,
                             const absl::StatusOr<coordinator::scheduler::SyncAnswer>& answer) {
  if (!answer.ok()) return;
  for (size_t i = 0; i < answer->verdicts.size(); ++i) {
    const coordinator::scheduler::AttemptReport& report = request.attempts[i];
    if (!answer->verdicts[i].status.ok()) continue;
    const std::string trial = TrialOf(report.lease);
    const auto accepted = acknowledged_.find(trial);
    const bool repeated = accepted != acknowledged_.end() && accepted->second.first == report.lease.epoch;
    if (report.lease.epoch < highest_epoch_[trial] && !repeated) {
      Violation(fmt::format("I4: a write under epoch {} of {} was accepted after epoch {} was handed out",
                            report.lease.epoch, trial, highest_epoch_[trial]));
    }
    const auto token = tokens_given_.find(KeyOf(report.lease));
    if (token == tokens_given_.end() ||
        token->second != fmt::format("{} {} {}", report.lease.token_hex, request.worker, request.session)) {
      Violation(fmt::format("I4: a write by {} with a lease that it was never given was accepted", request.worker));
    }
    if (const coordinator::scheduler::Result* result = std::get_if<coordinator::scheduler::Result>(&report.outcome)) {
      if (accepted != acknowledged_.end() && !repeated) {
        Violation(fmt::format("I1: a second result of {} was accepted (epochs {} and {})", trial,
                              accepted->second.first, report.lease.epoch));
      }
      acknowledged_[trial] = {report.lease.epoch, result->scores.at("score")};
    }
  }
  CheckPack(request, *answer);
  for (const coordinator::scheduler::DesiredAttempt& desired : answer->desired) {
    CheckFinish(desired);
    const bool mixed = created_.contains(desired.sweep_id);
    if (mixed &&
        !coordinator::scheduler::CanRun(request.description.abilities,
                                        NeedsOfSweep("main")->classes[NeedsOfSweep("main")->class_of(desired.cell)])) {
      Violation(fmt::format("I9: {} was given trial {} of {}, which it cannot run", request.worker, desired.trial.index,
                            desired.sweep_id));
    }
    const coordinator::scheduler::LeaseClaim lease{desired.sweep_id, desired.trial.index, desired.epoch,
                                                   ToHex(desired.token)};
    const std::string holder = fmt::format("{} {} {}", lease.token_hex, request.worker, request.session);
    const auto [given, is_new] = tokens_given_.emplace(KeyOf(lease), holder);
    int64_t& highest = highest_epoch_[TrialOf(lease)];
    if (!is_new && given->second != holder) {
      Violation(fmt::format("I3: epoch {} of {} was handed out twice", lease.epoch, TrialOf(lease)));
    }
    if (is_new && lease.epoch <= highest) {
      Violation(fmt::format("I3: epoch {} of {} was handed out after {}", lease.epoch, TrialOf(lease), highest));
    }
    highest = std::max(highest, lease.epoch);
  }
}

void Simulation::CheckFinish(const coordinator::scheduler::DesiredAttempt& desired) {
  const std::string trial = fmt::format("{}/{}", desired.sweep_id, desired.trial.index);
  const int64_t step = desired.finish_after_step;
  if (step > 0 && desired.sweep_id != "side") Violation(fmt::format("I11: {} of a study was told to end", trial));
  const auto [told, is_new] = told_to_finish_.emplace(trial, step);
  if (!is_new && told->second > 0 && step != told->second) {
    Violation(fmt::format("I11: {} was told to end after step {}, and now {}", trial, told->second, step));
  }
  if (step == 0 || told->second == step) {
    if (is_new && step > 0) ++result_.told_to_finish;
    return;
  }
  told->second = step;
  ++result_.told_to_finish;
}

void Simulation::CheckPack(const coordinator::scheduler::SyncRequest& request,
                           const coordinator::scheduler::SyncAnswer& answer) {
  const size_t held = answer.desired.size();
  if (held <= 1) return;
  ++result_.packs;
  // Whose memory has run out since may hold more than it asks for now: it gives that back itself.
  const auto room = static_cast<size_t>(std::max(1, MostTogether(request.worker.back() - '0')));
  if (held > room) {
    Violation(fmt::format("I9: {} was given {} trials at once, and can hold {}", request.worker, held, room));
  }
  const auto pack_of = [&](const coordinator::scheduler::DesiredAttempt& attempt) {
    return created_.contains(attempt.sweep_id)
               ? NeedsOfSweep("main")->pack_of(NeedsOfSweep("main")->class_of(attempt.cell))
               : 0;
  };
  const coordinator::scheduler::DesiredAttempt& first = answer.desired.front();
  for (const coordinator::scheduler::DesiredAttempt& desired : answer.desired) {
    if (desired.sweep_id != first.sweep_id || pack_of(desired) != pack_of(first)) {
      Violation(fmt::format("I10: {} holds trial {} of {} and trial {} of {}, which cannot be trained together",
                            request.worker, first.trial.index, first.sweep_id, desired.trial.index, desired.sweep_id));
    }
  }
}

void Simulation::CheckCounters() {
  if (disk_.frozen()) return;
  for (const std::string& id : created_) {
    const absl::StatusOr<coordinator::scheduler::Scheduler::SweepView> view =
        engine_->scheduler().View(id, {clock_.MonotonicNow(), clock_.WallNow()});
    if (!view.ok()) {
      Violation(fmt::format("I2: the acknowledged sweep '{}' is gone", id));
      continue;
    }
    // Its counters are the plan's, until all trials are stored.
    if (view->record->has_job(coordinator::scheduler::JobKind::kCreate)) continue;
    const absl::StatusOr<coordinator::scheduler::TrialCounts> recount = store_->CountTrials(view->record->key);
    if (recount.ok() && !(*recount == view->counts)) {
      Violation(fmt::format("I6: the counters of '{}' differ from a recount ({} succeeded of {}, counted {} of {})", id,
                            view->counts.succeeded, view->counts.total(), recount->succeeded, recount->total()));
    }
  }
}

void Simulation::CheckBrief() {
  for (const std::string& id : standing_) {
    if (!ViewOf(id).ok()) Violation(fmt::format("I2: the acknowledged sweep '{}' is gone", id));
  }
  for (const std::string& id : deleted_) {
    const auto view = ViewOf(id);
    if (view.ok() && view->record->shown_state() != coordinator::scheduler::SweepState::kDeleting) {
      Violation(fmt::format("I2: the deleted sweep '{}' is back", id));
    }
  }
}

absl::StatusOr<coordinator::scheduler::Scheduler::SweepView> Simulation::ViewOf(const std::string& id) const {
  return engine_->scheduler().View(id, {clock_.MonotonicNow(), clock_.WallNow()});
}

void Simulation::CheckNobodyPaid() {
  if (engine_->scheduler().counters().leases_expired > 0) {
    Violation(fmt::format("I8: {} leases expired", engine_->scheduler().counters().leases_expired));
  }
  for (const auto& [id, worker] : engine_->scheduler().workers().all()) {
    if (worker.set_aside_until > absl::ZeroDuration()) Violation(fmt::format("I8: {} was set aside", id));
  }
  const auto sweep = store_->GetSweep("main");
  const auto trials = sweep.ok() ? store_->ListTrials(sweep->key, {.limit = 1000}) : sweep.status();
  if (!trials.ok()) return Violation(fmt::format("I8: {}", std::string(trials.status().message())));
  for (const coordinator::store::TrialRow& trial : *trials) {
    if (trial.worker_losses > 0)
      Violation(fmt::format("I8: trial {} was lost {} times", trial.index, trial.worker_losses));
  }
}

void Simulation::CheckAcknowledged() {
  CheckBrief();
  for (const auto& [trial, accepted] : acknowledged_) {
    const size_t slash = trial.find('/');
    const absl::StatusOr<coordinator::scheduler::SweepRecord> sweep = store_->GetSweep(trial.substr(0, slash));
    // An I/O error; a missing sweep is CheckCounters' business. One that is being deleted goes row by row.
    if (!sweep.ok() || sweep->has_job(coordinator::scheduler::JobKind::kDelete)) continue;
    const absl::StatusOr<coordinator::store::TrialRow> row =
        store_->GetTrial({sweep->key, std::stoll(trial.substr(slash + 1))});
    if (!row.ok()) continue;
    if (row->state != TrialState::kSucceeded || !row->scores.contains("score")) {
      Violation(fmt::format("I2: the acknowledged result of {} is lost", trial));
    } else if (row->scores.at("score") != accepted.second) {
      Violation(fmt::format("I1: the acknowledged result of {} has changed", trial));
    }
  }
}

bool Simulation::Done() const {
  if (Faulty() || !engine_ || created_.size() < (options_.with_commands ? 2u : 1u)) return false;
  for (const std::string& id : created_) {
    const auto view = engine_->scheduler().View(id, {clock_.MonotonicNow(), clock_.WallNow()});
    if (!view.ok() || view->counts.succeeded != view->counts.total()) return false;
  }
  if (engine_->scheduler().HasWork()) return false;
  return std::none_of(brief_keys_.begin(), brief_keys_.end(),
                      [&](const auto& brief) { return ViewOf(brief.first).ok(); });
}

void Simulation::CheckEnd() {
  CheckAcknowledged();
  if (!result_.violations.empty()) return;
  for (const auto& [id, key] : brief_keys_) {
    if (ViewOf(id).ok())
      Violation(fmt::format("I5: the deleted sweep '{}' is still there long after the faults stopped", id));
    if (key != 0 && store_->CountTrials(key)->total() > 0)
      Violation(fmt::format("I6: rows of the deleted sweep '{}' are left", id));
  }
  for (const std::string& id : created_) {
    const auto view = engine_->scheduler().View(id, {clock_.MonotonicNow(), clock_.WallNow()});
    if (!view.ok()) return Violation(fmt::format("I2: sweep '{}' is gone", id));
    if (view->counts.succeeded != view->counts.total()) {
      Violation(fmt::format(
          "I5: {} of {} trials of '{}' have succeeded long after the faults stopped ({} queued, {} running, "
          "{} failed, {} cancelled, {} quarantined)",
          view->counts.succeeded, view->counts.total(), id, view->counts.queued, view->counts.running,
          view->counts.failed, view->counts.cancelled, view->counts.quarantined));
      continue;
    }
    const absl::StatusOr<coordinator::store::SweepSnapshot> snapshot = store_->Snapshot(id);
    if (!snapshot.ok()) return Violation(fmt::format("I2: {}", std::string(snapshot.status().message())));
    for (const coordinator::store::SweepSnapshot::Trial& trial : snapshot->trials) {
      if (trial.scores.size() != 1) {
        Violation(fmt::format("I1: trial {} of '{}' has {} scores", trial.index, id, trial.scores.size()));
      } else if (trial.scores.at("score") != CleanScore(trial.index)) {
        Violation(fmt::format("I7: the score of trial {} of '{}' is not that of a clean run", trial.index, id));
      }
    }
  }
}

}  // namespace loupe::simulation
