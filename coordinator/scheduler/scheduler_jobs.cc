// Work on all of a sweep's trials, in steps. A step's effects and the job's new cursor are one commit: cut off
// anywhere, it is there whole or not at all, and the next start goes on behind it.
#include <algorithm>
#include <array>
#include <utility>

#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/scheduler_parts.h"

namespace loupe::coordinator::scheduler {
namespace {

// How many trials a step may pass over for each one that it changes: they cost a look in memory, or a row read.
constexpr int64_t kLooksPerChange = 16;

}  // namespace

void Scheduler::BeginTurn(int64_t job_rows) {
  turn_rows_ = rows_left_ = job_rows;
  for (const SweepKey key : *purged_) {
    const auto gone = sweeps_.find(key);
    if (gone == sweeps_.end()) continue;  // two steps in one commit
    LeaveTurn(*gone->second);
    keys_by_id_.erase(gone->second->record.id);
    sweeps_.erase(gone);
  }
  purged_->clear();
}

void Scheduler::TakeTurn(Sweep& sweep) {
  const std::string& client = sweep.record.job->client;
  auto turn = std::find_if(turns_.begin(), turns_.end(), [&](const auto& one) { return one.first == client; });
  if (turn == turns_.end()) turn = turns_.insert(turns_.end(), {client, {}});
  turn->second.push_back(sweep.record.key);
  sweep.in_turn = true;
}

void Scheduler::LeaveTurn(Sweep& sweep) {
  if (!std::exchange(sweep.in_turn, false)) return;
  for (auto turn = turns_.begin(); turn != turns_.end(); ++turn) {
    if (std::erase(turn->second, sweep.record.key) == 0) continue;
    if (turn->second.empty()) turns_.erase(turn);
    return;
  }
}

void Scheduler::StartJob(Sweep& sweep, SweepJob job, CellFunctions cells, const Now& now, Effects& effects) {
  LeaveTurn(sweep);
  sweep.record.job = std::move(job);
  sweep.cells = std::move(cells);
  // That it will go is written before anything of it goes.
  if (sweep.record.has_job(JobKind::kDelete)) StoreJob(sweep, effects);
  if (rows_left_ > 0) {
    rows_left_ -= Step(sweep, rows_left_, now, effects);
  } else {
    StoreJob(sweep, effects);
  }
  if (sweep.record.job) TakeTurn(sweep);
}

void Scheduler::StoreJob(Sweep& sweep, Effects& effects) {
  effects.push_back(PutJob{sweep.record.key, *sweep.record.job});
  sweep.job_stored = true;
}

int64_t Scheduler::Work(const Now& now, Effects& effects) {
  // New jobs do their first step when they come: half a turn's room is kept for those that have begun.
  const int64_t all = std::max(rows_left_, (turn_rows_ + 1) / 2);
  int64_t room = all;
  // Each client once at most: what is left over is little.
  for (size_t clients = turns_.size(); room > 0 && clients > 0; --clients) {
    Sweep& sweep = *sweeps_.at(turns_.front().second.front());
    const size_t before = turns_.size();
    room -= Step(sweep, room, now, effects);
    if (!sweep.record.job) LeaveTurn(sweep);
    if (turns_.size() < before) continue;
    turns_.push_back(std::move(turns_.front()));
    turns_.pop_front();
  }
  return all - room;
}

int64_t Scheduler::Step(Sweep& sweep, int64_t room, const Now& now, Effects& effects) {
  SweepJob& job = *sweep.record.job;
  const SweepKey key = sweep.record.key;
  const int64_t trials = sweep.record.trials();
  int64_t rows = 0;
  switch (job.kind) {
    case JobKind::kCreate:
      rows = std::min(room, trials - job.cursor);
      effects.push_back(InsertTrials{key, sweep.record.cells, job.cursor, job.cursor + rows, sweep.cells.levels_json});
      job.cursor += rows;
      break;
    case JobKind::kRetry:
      rows = StepRetry(sweep, room, effects);
      break;
    case JobKind::kStop:
    case JobKind::kCancel:
      rows = StepCancel(sweep, room, effects);
      break;
    case JobKind::kDelete:
      effects.push_back(PurgeSweep{key, room, [purged = purged_, key](bool gone) {
                                     if (gone) purged->push_back(key);
                                   }});
      return room;
  }
  ++sweep.change;
  if (job.cursor == trials) {
    FinishJob(sweep, now, effects);
  } else {
    StoreJob(sweep, effects);
  }
  return rows;
}

int64_t Scheduler::StepCancel(Sweep& sweep, int64_t room, Effects& effects) {
  int64_t& cursor = sweep.record.job->cursor;
  const int64_t from = cursor;
  const int64_t end = std::min(sweep.record.trials(), from + kLooksPerChange * room);
  int64_t rows = 0;
  for (; cursor < end && rows < room; ++cursor) {
    if (sweep.trial(cursor).state != TrialState::kQueued) continue;
    SetState(sweep, cursor, TrialState::kCancelled);
    ++rows;
  }
  if (rows > 0) effects.push_back(CancelQueuedTrials{sweep.record.key, from, cursor});
  return std::max<int64_t>(rows, (cursor - from) / kLooksPerChange);
}

int64_t Scheduler::MarkTrialsToRetry(Sweep& sweep, const SweepJob& job, const std::function<bool(int64_t)>& matches) {
  std::array<bool, 8> wanted{};
  for (const TrialState state : job.states) {
    wanted[static_cast<size_t>(state)] = IsTerminal(state) && state != TrialState::kSucceeded;
  }
  sweep.to_retry.assign(static_cast<size_t>(sweep.record.trials()), false);
  int64_t marked = 0;
  for (int64_t index = job.cursor; index < sweep.record.trials(); ++index) {
    if (!wanted[static_cast<size_t>(sweep.trial(index).state)]) continue;
    if (matches && !matches(CellOf(sweep.record, index))) continue;
    sweep.to_retry[static_cast<size_t>(index)] = true;
    ++marked;
  }
  return marked;
}

int64_t Scheduler::StepRetry(Sweep& sweep, int64_t room, Effects& effects) {
  if (sweep.to_retry.empty()) MarkTrialsToRetry(sweep, *sweep.record.job, sweep.cells.matches);  // after a restart
  int64_t& cursor = sweep.record.job->cursor;
  const int64_t from = cursor;
  const int64_t end = std::min(sweep.record.trials(), from + 16 * kLooksPerChange * room);
  int64_t rows = 0;
  for (; cursor < end && rows < room; ++cursor) {
    if (!sweep.to_retry[static_cast<size_t>(cursor)]) continue;
    Trial& trial = sweep.trial(cursor);
    trial.failed_attempts = 0;
    trial.worker_losses = 0;
    SetState(sweep, cursor, TrialState::kQueued);
    sweep.queue_of(cursor).AddAgain(cursor);
    EmitTrial(sweep, cursor, std::nullopt, /*clear_failure=*/true, effects);
    ++rows;
  }
  Reindex(sweep);
  return std::max<int64_t>(rows, (cursor - from) / (16 * kLooksPerChange));
}

void Scheduler::FinishJob(Sweep& sweep, const Now& now, Effects& effects) {
  const JobKind kind = sweep.record.job->kind;
  sweep.record.job.reset();
  sweep.cells = {};
  sweep.to_retry = {};
  const bool took_several_steps = std::exchange(sweep.job_stored, false);
  if (took_several_steps) effects.push_back(EndJob{sweep.record.key});
  if (kind == JobKind::kCancel) {
    sweep.record.state = SweepState::kCancelled;
    sweep.record.end_time = now.wall;
    EmitSweep(sweep, now, effects);
  } else if (kind == JobKind::kCreate && took_several_steps) {
    EmitSweep(sweep, now, effects);
  } else {
    Reindex(sweep);
    EndSweepIfDone(sweep, now, effects);
  }
}

}  // namespace loupe::coordinator::scheduler
