// The scheduler's private records, shared by its three source files.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "coordinator/scheduler/scheduler.h"

namespace loupe::coordinator::scheduler {

// A record of a request takes some 300 bytes.
inline constexpr size_t kRememberedRequests = 100000;
// The work of a trial from its beginning, of which what is left is counted.
inline constexpr int64_t kWorkOfTrial = 1000;

struct Scheduler::Sweep {
  Sweep(SweepRecord the_record, std::shared_ptr<const SweepNeeds> the_needs)
      : record(std::move(the_record)),
        needs(std::move(the_needs)),
        trials(static_cast<size_t>(record.trials())),
        queues(needs->classes.size(), RunQueue(record.cells, record.replicates, record.seed)),
        runnable_keys(queues.size()) {
    if (needs->search) early.emplace(*needs->search, record.cells);
    counts.queued = record.trials();
  }

  Trial& trial(int64_t index) { return trials[static_cast<size_t>(index)]; }
  RunQueue& queue_of(int64_t index) { return queues[needs->class_of(CellOf(record, index))]; }
  void AddAllFresh() {
    for (int64_t index = 0; index < record.trials(); ++index) queue_of(index).AddFresh(index);
  }
  // The class of the next trial in the run order, among the classes that are `wanted`; or nothing.
  template <typename Wanted>
  std::optional<size_t> NextClass(const Wanted& wanted) {
    std::optional<size_t> first;
    RunQueue::Place first_place{};
    for (size_t i = 0; i < queues.size(); ++i) {
      if (queues[i].empty() || !wanted(i)) continue;
      const RunQueue::Place place = queues[i].NextPlace();
      if (first && first_place <= place) continue;
      first = i;
      first_place = place;
    }
    return first;
  }

  SweepRecord record;
  std::shared_ptr<const SweepNeeds> needs;
  TrialCounts counts;
  std::vector<Trial> trials;
  // By class of needs.
  std::vector<RunQueue> queues;
  // Its entries in runnable_, by class, where it has one.
  std::vector<std::optional<RunnableKey>> runnable_keys;
  // Of which trials have an attempt now.
  std::set<int64_t> running;
  // The sum of Attempt::left over them.
  int64_t running_left = 0;
  // Waiting out a back-off: index -> when (monotonic).
  std::map<int64_t, absl::Duration> delayed;
  uint64_t last_grant = 0;
  uint64_t change = 1;
  // Seconds of the latest accepted trials, for the estimate.
  std::deque<double> durations;
  // Of a search.
  std::optional<EarlyStopping> early;
  // What the accepted results were computed from (Result::inputs).
  std::map<std::string, std::string> inputs;
  // Results refused for other inputs since one was last accepted.
  int refused_in_a_row = 0;
  // Failed since the sweep was last made active: what max_failed_trials counts.
  int64_t failed_since_active = 0;
  // Of record.job.
  CellFunctions cells;
  // Of a retry: by index, the trials that are still to be queued.
  std::vector<bool> to_retry;
  // Whether the store has a row of the job.
  bool job_stored = false;
  bool in_turn = false;
};

struct Scheduler::Attempt {
  TrialKey trial;
  int64_t epoch = 0;
  // Unset after a restart, until its worker has shown it.
  std::optional<Token128> token;
  std::string token_sha256;
  std::string worker;
  std::string session;
  absl::Duration start;
  absl::Duration expiry;
  absl::Duration last_progress;
  std::string phase;
  int64_t step = 0;
  int64_t total_steps = 0;
  // Of kWorkOfTrial, by the steps that are trained.
  int64_t left = kWorkOfTrial;
  int32_t pack = 0;
  int64_t point_sequence = 0;
  std::map<std::string, double> metrics;
  // Names of what has arrived.
  std::set<std::string> artifacts;
};

}  // namespace loupe::coordinator::scheduler
