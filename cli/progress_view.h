// A sweep's progress as text. Pure: the clock is an argument.
#pragma once

#include <deque>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::cli {

// Not thread-safe.
class ProgressView {
 public:
  // Notes the state at `now` (monotonic), from which rate and time left follow. States come in order.
  void Update(const v1::WatchSweepResponse& state, absl::Duration now);

  // The last one noted.
  const v1::WatchSweepResponse& state() const { return state_; }

  // Trials that end per second over the last minutes; 0 until two have been seen to end.
  double TrialsPerSecond() const;
  // Seconds until the end: the coordinator's own estimate where it has one, else from the rate; negative when unknown.
  double SecondsLeft() const;

  // One line for a log: "quickstart: 7 of 24 done (29 %), 2 running, 4.1/min, 4 min 10 s left; trial 9 train 30/50:
  // loss 0.0812".
  std::string PlainLine() const;

 private:
  v1::WatchSweepResponse state_;
  // (time, trials ended) whenever the second changed; older than kRateWindow are dropped but for one.
  std::deque<std::pair<absl::Duration, int64_t>> ended_;
};

// "4.1/min", "1.2/s"; empty for none.
std::string RateText(double per_second);

// " in packs of 4, 3": workers that train several trials together; empty where none does. A worker that does not say
// how many packs what it holds.
std::string PacksText(const google::protobuf::RepeatedPtrField<v1::RunningAttempt>& running);

// Of all trials, those that need nothing more: 0 to 1.
double EndedShare(const v1::TrialCounts& counts);

}  // namespace loupe::cli
