// The learning rate over a run, as a factor of the set rate.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace loupe::worker::train {

// With w warm-up steps and T steps in all: (s + 1)/w while s < w; then 1, or ½(1 + cos(π (s − w)/(T − w))). With a
// tail, never more than (T − s)/(tail·T): a straight line down to 0 over that share of the steps, at their end.
struct RateSchedule {
  int64_t warmup_steps = 0;
  bool cosine = false;
  double linear_tail = 0;   // 0 … 1
  int64_t total_steps = 0;  // of the cosine and the tail

  // For the step after `steps` steps have been taken.
  double FactorAt(int64_t steps) const {
    const double factor = BeforeTail(steps), tail = linear_tail * static_cast<double>(total_steps);
    if (tail <= 0) return factor;
    return std::clamp(static_cast<double>(total_steps - steps) / tail, 0.0, factor);
  }

 private:
  double BeforeTail(int64_t steps) const {
    if (steps < warmup_steps) return static_cast<double>(steps + 1) / static_cast<double>(warmup_steps);
    if (!cosine) return 1;
    const auto span = static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps));
    const double share = std::min(1.0, static_cast<double>(steps - warmup_steps) / span);
    return 0.5 * (1 + std::cos(std::numbers::pi * share));
  }
};

}  // namespace loupe::worker::train
