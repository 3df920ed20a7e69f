// A sweep's progress as text. Pure: the clock is an argument.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::cli {

// Not thread-safe.
class ProgressView {
 public:
  // Notes the state at `now` (monotonic), from which rate and time left follow. States come in order.
  void Update(const v1::WatchSweepResponse& state, absl::Duration now);

  // Trials that end per second over the last minutes; 0 until two have been seen to end.
  double TrialsPerSecond() const;
  // Seconds until the end: the coordinator's own estimate where it has one, else from the rate; negative when unknown.
  double SecondsLeft() const;

  // What a terminal of `width` columns shows: a bar, then one line per running attempt, at most `max_lines` in all. No
  // line is wider than `width`.
  std::vector<std::string> TerminalLines(int width, int max_lines) const;
  // One line for a log: "quickstart: 7 of 24 done (29 %), 2 running, 4.1/min, 4 min 10 s left; trial 9 train 30/50:
  // loss 0.0812".
  std::string PlainLine() const;

 private:
  v1::WatchSweepResponse state_;
  // (time, trials ended) whenever the second changed; older than kRateWindow are dropped but for one.
  std::deque<std::pair<absl::Duration, int64_t>> ended_;
};

// "[#######.....]" of exactly `width` columns (at least 2).
std::string ProgressBar(double fraction, int width);

}  // namespace loupe::cli
