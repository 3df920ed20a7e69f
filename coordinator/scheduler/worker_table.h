// The workers the scheduler knows: their sessions, what they hold, and whether they may have more.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/scheduler/model.h"

namespace loupe::coordinator::scheduler {

struct WorkerEntry {
  WorkerRecord record;
  // Monotonic; of the last message of the current session.
  absl::Duration last_sync;
  std::set<TrialKey> attempts;
  // Nothing of what it holds has been reported yet: its pack is being put together.
  bool gathers = false;
  // Nothing that waits may join what it holds, as far as is known before its next message.
  bool complete = false;
  // The worker itself wants nothing new.
  bool leaving = false;
  // Waits for an answer: the engine holds its call.
  bool parked = false;
  uint64_t parked_order = 0;
  // Under which it is listed among those that wait, where it is.
  std::optional<WorkerAbilities> waits_as;
  // Monotonic times at which attempts were lost, without a success since.
  std::deque<absl::Duration> losses;
  // Of the latest of them: whose it was.
  std::string lost_session;
  // Nothing new until then (monotonic); zero when it is trusted.
  absl::Duration set_aside_until;
  // As stored.
  absl::Time seen_stored;

  // Whether it is given anything new, as far as that is not a matter of room.
  bool Takes(absl::Duration now) const { return !leaving && !record.draining && now >= set_aside_until; }
};

struct WorkerRules {
  // So many lost attempts within the window set a worker aside.
  size_t losses_to_set_aside = 3;
  absl::Duration loss_window = absl::Minutes(10);
  absl::Duration set_aside_for = absl::Minutes(2);
  // A worker that has not been heard of for so long is forgotten, name, counts and drain. Civil time, since it goes on
  // while the coordinator is down; who is connected is never forgotten, wherever the clock jumps. As long as an
  // enrolled worker's token lasts (service/access.h).
  absl::Duration forget_after = absl::Hours(24 * 30);
  // Beyond so many names, those that have been away longest go at once: machines that take a new name at each start.
  size_t most_names = 10'000;
};
// How often at least the time of a worker's latest message is stored.
inline constexpr absl::Duration kSeenInterval = absl::Hours(24);

// Not thread-safe.
class WorkerTable {
 public:
  explicit WorkerTable(const WorkerRules& rules) : rules_(rules) {}

  WorkerEntry* Find(const std::string& id);
  WorkerEntry& Add(WorkerRecord record);
  // Of a message from it.
  void See(WorkerEntry& worker, absl::Duration now, absl::Time wall);
  // Who is to be forgotten next, or nullptr: nobody who holds a trial, waits for an answer, or was heard of within
  // `lease`.
  const WorkerEntry* Forgettable(absl::Duration now, absl::Time wall, absl::Duration lease) const;
  void Forget(const std::string& id);
  const std::map<std::string, WorkerEntry>& all() const { return workers_; }

  // Whether it may be given one more attempt: any, or beyond its slots, one that fits the others.
  bool CanTakeMore(const WorkerEntry& worker, absl::Duration now) const;

  void Park(WorkerEntry& worker);
  void Unpark(WorkerEntry& worker);
  // The parked worker that has waited longest of those that can take more and whose abilities are `wanted`, or nullptr.
  // Asks once for each set of abilities that any of them has: few, however many workers there are.
  WorkerEntry* LongestWaiting(absl::Duration now, const std::function<bool(const WorkerAbilities&)>& wanted);
  // After a change that may let a parked worker take more, or no more.
  void Reconsider(WorkerEntry& worker, absl::Duration now);

  // Of one attempt, by a process of the worker's. A pack that is lost at once is one loss.
  void OnLoss(WorkerEntry& worker, const std::string& session, absl::Duration now);
  void OnSuccess(WorkerEntry& worker);
  // Ends set-asides whose time has come.
  void Tick(absl::Duration now);
  // The next time at which Tick has something to do; infinite when never.
  absl::Duration NextDeadline() const;

 private:
  void Enlist(WorkerEntry& worker);
  void Strike(WorkerEntry& worker);

  const WorkerRules rules_;
  std::map<std::string, WorkerEntry> workers_;
  uint64_t next_order_ = 0;
  // Parked workers that can take more: what they can run -> order of waiting -> id.
  std::map<WorkerAbilities, std::map<uint64_t, std::string>> waiting_;
  std::set<std::pair<absl::Duration, std::string>> set_aside_;
  // All, by when they were last heard of.
  std::set<std::pair<absl::Time, std::string>> last_seen_;
};

}  // namespace loupe::coordinator::scheduler
