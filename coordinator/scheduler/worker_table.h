// The workers the scheduler knows: their sessions, what they hold, and whether they may have more.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/scheduler/model.h"

namespace loupe::coordinator {

struct WorkerEntry {
  WorkerRecord record;
  // Monotonic; of the last message of the current session.
  absl::Duration last_sync;
  std::set<TrialKey> attempts;
  // The worker itself wants nothing new.
  bool leaving = false;
  // Waits for an answer: the engine holds its call.
  bool parked = false;
  uint64_t parked_order = 0;
  // Monotonic times of lost attempts without a success since.
  std::deque<absl::Duration> losses;
  // Nothing new until then (monotonic); zero when it is trusted.
  absl::Duration set_aside_until;
};

struct WorkerRules {
  // So many lost attempts within the window set a worker aside.
  size_t losses_to_set_aside = 3;
  absl::Duration loss_window = absl::Minutes(10);
  absl::Duration set_aside_for = absl::Minutes(2);
};

// Not thread-safe.
class WorkerTable {
 public:
  explicit WorkerTable(const WorkerRules& rules) : rules_(rules) {}

  WorkerEntry* Find(const std::string& id);
  WorkerEntry& Add(WorkerRecord record);
  const std::map<std::string, WorkerEntry>& all() const { return workers_; }

  // Whether it may be given one more attempt.
  bool CanTakeMore(const WorkerEntry& worker, absl::Duration now) const;

  void Park(WorkerEntry& worker);
  void Unpark(WorkerEntry& worker);
  // The parked worker that has waited longest and can take more, or nullptr.
  WorkerEntry* LongestWaiting(absl::Duration now);
  // After a change that may let a parked worker take more, or no more.
  void Reconsider(WorkerEntry& worker, absl::Duration now);

  void OnLoss(WorkerEntry& worker, absl::Duration now);
  void OnSuccess(WorkerEntry& worker);
  // Ends set-asides whose time has come.
  void Tick(absl::Duration now);
  // The next time at which Tick has something to do; infinite when never.
  absl::Duration NextDeadline() const;

 private:
  const WorkerRules rules_;
  std::map<std::string, WorkerEntry> workers_;
  uint64_t next_order_ = 0;
  // Parked workers that can take more: order of waiting -> id.
  std::map<uint64_t, std::string> waiting_;
  std::set<std::pair<absl::Duration, std::string>> set_aside_;
};

}  // namespace loupe::coordinator
