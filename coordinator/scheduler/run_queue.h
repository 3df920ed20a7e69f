// The order in which one sweep's trials run: replicate by replicate, so that whole blocks complete first; within a
// replicate the cells come in a random order that the sweep's seed fixes, so that no factor goes with time.
//
// Trials that come back (lost worker, retry) run before fresh ones of the same or a later replicate.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

namespace loupe::coordinator::scheduler {

// A sweep whose trials do not all need the same of a worker (SweepNeeds) has a queue for each class; each keeps to the
// one order of the sweep.
// Keeps indexes only; the caller knows states. Not thread-safe. Memory: 1 bit per trial and 4 bytes per cell.
class RunQueue {
 public:
  // Empty: nothing is queued yet. `seed` fixes the order, whichever of the trials are ever put into this queue.
  RunQueue(int64_t cells, int32_t replicates, uint64_t seed);

  // Puts a trial in its place in the fresh order. Only before the first Pop.
  void AddFresh(int64_t index);
  // Puts back a trial that was popped, or that left the queue by Remove. Not while it is queued.
  void AddAgain(int64_t index);
  // Takes one out, wherever it stands. OK when it is not queued.
  void Remove(int64_t index);
  void Clear();

  // The next trial to run, or nothing; Pop takes it out.
  std::optional<int64_t> Peek();
  std::optional<int64_t> Pop();
  // Its place in the run order, to compare with that of another queue of the same sweep: replicate, whether it is a
  // fresh one, place in the replicate. Precondition: not empty().
  using Place = std::tuple<int64_t, bool, int64_t>;
  Place NextPlace();

  int64_t size() const { return fresh_count_ + static_cast<int64_t>(again_.size()); }
  bool empty() const { return size() == 0; }

 private:
  // The trial at a position of the fresh order.
  int64_t AtPosition(int64_t position);
  // The next fresh one; the cursor stands on it then.
  std::optional<int64_t> NextFresh();

  const int64_t cells_;
  const int32_t replicates_;
  const uint64_t seed_;
  std::vector<bool> fresh_;
  int64_t fresh_count_ = 0;
  int64_t cursor_ = 0;
  // By index: earlier replicates first.
  std::set<int64_t> again_;
  // The cells' order in replicate `ordered_replicate_`.
  std::vector<int32_t> cell_order_;
  int64_t ordered_replicate_ = -1;
};

}  // namespace loupe::coordinator::scheduler
