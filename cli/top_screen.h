// `loupe top`: the workers and what they run, as a screen of so many columns and lines. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cli/styled_line.h"
#include "loupe/v1/worker.pb.h"

namespace loupe::cli {

// In this order by the key 's'.
enum class TopOrder { kWorker, kSpeed, kLastSeen, kDone };
inline constexpr const char* kTopOrders[] = {"worker", "speed", "seen", "done"};

// What the coordinator says of its workers now, and said before. Not thread-safe.
class TopModel {
 public:
  // Workers come in order of `now` (monotonic).
  void Update(std::vector<v1::Worker> workers, absl::Duration now);

  const std::vector<v1::Worker>& workers() const { return workers_; }
  // How far a trial that runs is; null where the worker or the coordinator is too old to say.
  const v1::RunningAttempt* Find(const std::string& trial) const;
  // Between the last two updates that differ in the trial's step, or else what its worker says of its steps of late;
  // negative where neither is known.
  double StepsPerSecond(const std::string& trial) const;
  // Of all that a worker runs.
  double StepsPerSecond(const v1::Worker& worker) const;

 private:
  struct Progress {
    v1::RunningAttempt attempt;
    // When the step was first seen.
    absl::Duration since;
    double steps_per_second = -1;
  };
  std::vector<v1::Worker> workers_;
  std::map<std::string, Progress> running_;
};

// At most `height` lines, none wider than `width`; the last says which keys there are where `keys`.
std::vector<StyledLine> TopScreen(const TopModel& model, TopOrder order, const std::string& notice, bool keys,
                                  int width, int height);

}  // namespace loupe::cli
