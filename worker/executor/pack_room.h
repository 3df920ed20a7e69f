// How many trials a process trains together: as many as it was told, or as its memory holds. On a CPU that is measured
// with the first trial; a GPU says itself when it is full, and then half as many are tried.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace loupe::worker::executor {

// slots() may be asked from any thread; the rest is the executor's.
class PackRoom {
 public:
  // `slots`: how many; 0: found out. What trials of one pack share is computed once, so that a ninth adds little.
  PackRoom(int32_t slots, torch::Device device)
      : most_(slots > 0 ? slots : kMostFound), device_(device), slots_(slots > 0 || !device.is_cpu() ? most_ : 1) {}

  int32_t slots() const { return slots_; }
  // As many as there are at the most: what a shared pass is as wide as from the first step on.
  int32_t width() const { return most_; }

  // Memory ran out with so many: half of them from now on.
  void Halve(size_t trials) {
    most_ = std::max<int32_t>(1, static_cast<int32_t>(trials / 2));
    slots_ = std::min<int32_t>(slots_, most_);
  }

  // Before a trial's networks and batches are made, and when the pack has taken its first step with it.
  void BeforeFirst();
  void AfterStep();

 private:
  static constexpr int32_t kMostFound = 8;

  int32_t most_;
  const torch::Device device_;
  std::atomic<int32_t> slots_;
  int64_t resident_before_ = 0;
};

}  // namespace loupe::worker::executor
