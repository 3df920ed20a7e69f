// How much a process has done, and in which time.
#pragma once

#include <cstdint>
#include <mutex>

#include "worker/executor/attempt.h"

namespace loupe::worker::executor {

// Thread-safe.
class WorkMeter {
 public:
  // An optimiser step of one trial.
  void AddStep(double seconds) {
    const std::lock_guard lock(mutex_);
    ++done_.steps;
    done_.step_seconds += seconds;
  }
  void AddPictures(int64_t count, double seconds) {
    const std::lock_guard lock(mutex_);
    done_.pictures += count;
    done_.picture_seconds += seconds;
  }
  WorkDone Read() const {
    const std::lock_guard lock(mutex_);
    return done_;
  }

 private:
  mutable std::mutex mutex_;
  WorkDone done_;
};

}  // namespace loupe::worker::executor
