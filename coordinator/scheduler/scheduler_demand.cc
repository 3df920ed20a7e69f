// How many workers there should be. What an engine that starts workers looks at: one number for queued and running
// trials together, since who counts the queue alone ends the workers that hold the last trials.
#include <algorithm>
#include <cmath>

#include "common/median.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/scheduler_parts.h"

namespace loupe::coordinator::scheduler {

std::optional<double> Scheduler::MedianSeconds(const Sweep& sweep) {
  if (sweep.durations.empty()) return std::nullopt;
  return Median({sweep.durations.begin(), sweep.durations.end()});
}

Scheduler::Demand Scheduler::DemandAt(const Now& now) const {
  Demand demand;
  int64_t slots = 0;
  int64_t busy = 0;
  for (const auto& [id, worker] : workers_.all()) {
    const bool connected = worker.parked || now.monotonic - worker.last_sync < options_.lease;
    // One that leaves is no supply, and none that could be spared: it goes anyway.
    if (!connected || !worker.Takes(now.monotonic)) continue;
    ++demand.available;
    slots += std::max(worker.record.slots, worker.record.pack_slots);
    if (!worker.attempts.empty()) ++busy;
  }
  const bool anybody = !FleetAt(now).abilities.empty();
  double workers = 0;
  for (const auto& [key, sweep] : sweeps_) {
    int64_t trials = static_cast<int64_t>(sweep->running.size());
    if (sweep->record.shown_state() == SweepState::kActive) {
      trials += static_cast<int64_t>(sweep->delayed.size());
      for (size_t i = 0; i < sweep->queues.size(); ++i) {
        // More workers of the kind that is there would not run what that kind cannot run. Where there are none at all,
        // the first will show what they can.
        if (!anybody || WhyNobodyRuns(sweep->needs->classes[i], now).empty()) trials += sweep->queues[i].size();
      }
    }
    demand.trials += trials;
    const double each = MedianSeconds(*sweep).value_or(absl::ToDoubleSeconds(options_.worth_a_worker));
    workers += static_cast<double>(trials) * std::min(1.0, each / absl::ToDoubleSeconds(options_.worth_a_worker));
  }
  // Workers that train several trials at a time are fewer.
  if (demand.available > 0)
    workers *= static_cast<double>(demand.available) / static_cast<double>(std::max<int64_t>(1, slots));
  demand.wanted = std::max(busy, static_cast<int64_t>(std::ceil(workers - 1e-9)));
  return demand;
}

}  // namespace loupe::coordinator::scheduler
