#include "coordinator/scheduler/worker_table.h"

#include <utility>

namespace loupe::coordinator {

WorkerEntry* WorkerTable::Find(const std::string& id) {
  const auto found = workers_.find(id);
  return found == workers_.end() ? nullptr : &found->second;
}

WorkerEntry& WorkerTable::Add(WorkerRecord record) {
  WorkerEntry& entry = workers_[record.id];
  entry.record = std::move(record);
  return entry;
}

bool WorkerTable::CanTakeMore(const WorkerEntry& worker, absl::Duration now) const {
  return !worker.leaving && !worker.record.draining && now >= worker.set_aside_until &&
         static_cast<int64_t>(worker.attempts.size()) < worker.record.slots;
}

void WorkerTable::Park(WorkerEntry& worker) {
  if (worker.parked) return;
  worker.parked = true;
  worker.parked_order = next_order_++;
}

void WorkerTable::Unpark(WorkerEntry& worker) {
  worker.parked = false;
  waiting_.erase(worker.parked_order);
}

WorkerEntry* WorkerTable::LongestWaiting(absl::Duration now) {
  while (!waiting_.empty()) {
    WorkerEntry* worker = Find(waiting_.begin()->second);
    if (worker != nullptr && worker->parked && CanTakeMore(*worker, now)) return worker;
    waiting_.erase(waiting_.begin());
  }
  return nullptr;
}

void WorkerTable::Reconsider(WorkerEntry& worker, absl::Duration now) {
  if (worker.parked && CanTakeMore(worker, now)) {
    waiting_.emplace(worker.parked_order, worker.record.id);
  } else {
    waiting_.erase(worker.parked_order);
  }
}

void WorkerTable::OnLoss(WorkerEntry& worker, absl::Duration now) {
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

}  // namespace loupe::coordinator
