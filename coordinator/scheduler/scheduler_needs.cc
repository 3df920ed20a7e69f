// Which workers can run which trials: a worker is offered only what it can run, and what nobody can run waits.
#include <algorithm>

#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/scheduler_parts.h"
#include "fmt/format.h"

namespace loupe::coordinator::scheduler {

const Scheduler::Fleet& Scheduler::FleetAt(const Now& now) const {
  if (fleet_ && fleet_->at == now.monotonic) return *fleet_;
  fleet_ = Fleet{.at = now.monotonic};
  for (const auto& [id, worker] : workers_.all()) {
    if (!worker.parked && now.monotonic - worker.last_sync >= options_.lease) continue;
    fleet_->slots += std::max(worker.record.slots, worker.record.pack_slots);
    if (!worker.leaving) ++fleet_->abilities[worker.record.description.abilities];
    if (worker.Takes(now.monotonic)) ++fleet_->takers[worker.record.description.abilities];
  }
  return *fleet_;
}

bool Scheduler::HasWorkFor(const WorkerAbilities& worker) const {
  return std::any_of(runnable_.begin(), runnable_.end(),
                     [&](const auto& of_needs) { return CanRun(worker, of_needs.first); });
}

Scheduler::Sweep* Scheduler::NextSweepFor(const WorkerAbilities& worker) {
  const RunnableKey* next = nullptr;
  for (const auto& [needs, keys] : runnable_) {
    if (!CanRun(worker, needs) && options_.mutation != SchedulerOptions::Mutation::kLeaseToAnybody) continue;
    if (next == nullptr || *keys.begin() < *next) next = &*keys.begin();
  }
  return next == nullptr ? nullptr : sweeps_.at(std::get<3>(*next)).get();
}

std::string Scheduler::WhyNobodyRuns(const TrialNeeds& needs, const Now& now) const {
  const std::map<WorkerAbilities, int64_t>& fleet = FleetAt(now).abilities;
  if (fleet.empty()) return "no worker is connected";
  const auto somebody = [&](const TrialNeeds& asked) {
    return std::any_of(fleet.begin(), fleet.end(),
                       [&](const auto& of_workers) { return CanRun(of_workers.first, asked); });
  };
  if (somebody(needs)) return "";
  if (!somebody({.method = needs.method}))
    return fmt::format("method {}, and no connected worker runs it", needs.method);
  if (!somebody({.task = needs.task})) return fmt::format("task {}, and no connected worker runs it", needs.task);
  if (!somebody({.devices = needs.devices})) {
    size_t most = 1;
    for (const auto& [worker, count] : fleet) most = std::max(most, worker.devices.size());
    return fmt::format("{} devices for one trial, and connected workers have {} at most", needs.devices, most);
  }
  if (!somebody({.settings_version = needs.settings_version})) {
    int32_t newest = 0;
    for (const auto& [worker, count] : fleet) newest = std::max(newest, worker.settings_version);
    return fmt::format("settings of version {}, and connected workers know version {} at most: update them",
                       needs.settings_version, newest);
  }
  const std::string devices = needs.devices > 1 ? fmt::format(", {} devices", needs.devices) : "";
  return fmt::format("method {}, task {}{} and settings of version {}, and no connected worker runs all of that",
                     needs.method, needs.task, devices, needs.settings_version);
}

void Scheduler::AddWaiting(const Sweep& sweep, size_t of_class, const Now& now,
                           std::vector<WaitingTrials>& waiting) const {
  if (!sweep.runnable_keys[of_class]) return;
  std::string reason = WhyNobodyRuns(sweep.needs->classes[of_class], now);
  if (reason.empty()) return;
  const int64_t trials = sweep.queues[of_class].size();
  const auto same = std::find_if(waiting.begin(), waiting.end(), [&](const WaitingTrials& other) {
    return other.sweep_id == sweep.record.id && other.reason == reason;
  });
  if (same != waiting.end()) {
    same->trials += trials;
  } else {
    waiting.push_back({sweep.record.id, trials, std::move(reason)});
  }
}

std::vector<WaitingTrials> Scheduler::Waiting(const Now& now, size_t most) const {
  std::vector<WaitingTrials> waiting;
  for (const auto& [needs, keys] : runnable_) {
    if (WhyNobodyRuns(needs, now).empty()) continue;
    for (const RunnableKey& key : keys) {
      if (waiting.size() >= most) return waiting;
      const Sweep& sweep = *sweeps_.at(std::get<3>(key));
      for (size_t i = 0; i < sweep.needs->classes.size(); ++i) {
        if (sweep.needs->classes[i] == needs) AddWaiting(sweep, i, now, waiting);
      }
    }
  }
  return waiting;
}

}  // namespace loupe::coordinator::scheduler
