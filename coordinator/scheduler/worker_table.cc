#include "coordinator/scheduler/worker_table.h"

#include <algorithm>
#include <utility>

namespace loupe::coordinator::scheduler {

WorkerEntry* WorkerTable::Find(const std::string& id) {
  const auto found = workers_.find(id);
  return found == workers_.end() ? nullptr : &found->second;
}

WorkerEntry& WorkerTable::Add(WorkerRecord record) {
  WorkerEntry& entry = workers_[record.id];
  last_seen_.erase({entry.record.last_seen, record.id});
  last_seen_.emplace(record.last_seen, record.id);
  entry.seen_stored = record.last_seen;
  entry.record = std::move(record);
  return entry;
}

void WorkerTable::See(WorkerEntry& worker, absl::Duration now, absl::Time wall) {
  worker.last_sync = now;
  if (worker.record.last_seen == wall) return;
  last_seen_.erase({worker.record.last_seen, worker.record.id});
  worker.record.last_seen = wall;
  last_seen_.emplace(wall, worker.record.id);
}

const WorkerEntry* WorkerTable::Forgettable(absl::Duration now, absl::Time wall, absl::Duration lease) const {
  if (last_seen_.empty()) return nullptr;
  const auto& [seen, id] = *last_seen_.begin();
  if (workers_.size() <= rules_.most_names && seen + rules_.forget_after > wall) return nullptr;
  const WorkerEntry& worker = workers_.at(id);
  const bool present = worker.parked || !worker.attempts.empty() || now - worker.last_sync < lease;
  return present ? nullptr : &worker;
}

void WorkerTable::Forget(const std::string& id) {
  const auto found = workers_.find(id);
  Strike(found->second);
  last_seen_.erase({found->second.record.last_seen, id});
  set_aside_.erase({found->second.set_aside_until, id});
  workers_.erase(found);
}

bool WorkerTable::CanTakeMore(const WorkerEntry& worker, absl::Duration now) const {
  const auto held = static_cast<int64_t>(worker.attempts.size());
  const int64_t room = worker.complete ? worker.record.slots : std::max(worker.record.slots, worker.record.pack_slots);
  return worker.Takes(now) && held < room;
}

void WorkerTable::Park(WorkerEntry& worker) {
  if (worker.parked) return;
  worker.parked = true;
  worker.parked_order = next_order_++;
}

void WorkerTable::Unpark(WorkerEntry& worker) {
  worker.parked = false;
  Strike(worker);
}

void WorkerTable::Enlist(WorkerEntry& worker) {
  if (worker.waits_as) return;
  worker.waits_as = worker.record.description.abilities;
  waiting_[*worker.waits_as].emplace(worker.parked_order, worker.record.id);
}

void WorkerTable::Strike(WorkerEntry& worker) {
  if (!worker.waits_as) return;
  const auto alike = waiting_.find(*worker.waits_as);
  alike->second.erase(worker.parked_order);
  if (alike->second.empty()) waiting_.erase(alike);
  worker.waits_as.reset();
}

WorkerEntry* WorkerTable::LongestWaiting(absl::Duration now,
                                         const std::function<bool(const WorkerAbilities&)>& wanted) {
  WorkerEntry* longest = nullptr;
  for (auto alike = waiting_.begin(); alike != waiting_.end();) {
    if (!wanted(alike->first)) {
      ++alike;
      continue;
    }
    // Goes on at the next one: striking the last of these removes them all.
    auto& waiting = (alike++)->second;
    for (size_t left = waiting.size(); left > 0; --left) {
      WorkerEntry& worker = workers_.at(waiting.begin()->second);
      if (CanTakeMore(worker, now)) {
        if (longest == nullptr || worker.parked_order < longest->parked_order) longest = &worker;
        break;
      }
      Strike(worker);
    }
  }
  return longest;
}

void WorkerTable::Reconsider(WorkerEntry& worker, absl::Duration now) {
  if (worker.parked && CanTakeMore(worker, now)) {
    Enlist(worker);
  } else {
    Strike(worker);
  }
}

void WorkerTable::OnLoss(WorkerEntry& worker, const std::string& session, absl::Duration now) {
  if (!worker.losses.empty() && worker.losses.back() == now && worker.lost_session == session) return;
  worker.lost_session = session;
  worker.losses.push_back(now);
  while (!worker.losses.empty() && worker.losses.front() + rules_.loss_window < now) worker.losses.pop_front();
  if (worker.losses.size() < rules_.losses_to_set_aside) return;
  worker.losses.clear();
  worker.set_aside_until = now + rules_.set_aside_for;
  set_aside_.emplace(worker.set_aside_until, worker.record.id);
}

void WorkerTable::OnSuccess(WorkerEntry& worker) { worker.losses.clear(); }

void WorkerTable::Tick(absl::Duration now) {
  while (!set_aside_.empty() && set_aside_.begin()->first <= now) {
    WorkerEntry* worker = Find(set_aside_.begin()->second);
    set_aside_.erase(set_aside_.begin());
    if (worker != nullptr) Reconsider(*worker, now);
  }
}

absl::Duration WorkerTable::NextDeadline() const {
  return set_aside_.empty() ? absl::InfiniteDuration() : set_aside_.begin()->first;
}

}  // namespace loupe::coordinator::scheduler
