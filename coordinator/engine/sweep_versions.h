// Which sweeps have changed: a number per sweep that rises with every commit that a report could show.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <type_traits>
#include <variant>

#include "coordinator/scheduler/effects.h"

namespace loupe::coordinator::engine {

// Thread-safe. Counts from the start of the process: it tells two moments of one process apart, no more.
class SweepVersions {
 public:
  // `committed` is durable.
  void Note(const scheduler::Effects& committed) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const scheduler::Effect& effect : committed) std::visit([this](const auto& one) { NoteOne(one); }, effect);
  }

  // Read it before the data: what is read then is at least as new.
  uint64_t Of(scheduler::SweepKey sweep) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = versions_.find(sweep);
    return found == versions_.end() ? 0 : found->second;
  }

 private:
  template <typename E>
  void NoteOne(const E& effect) {
    // Points and files are shown once the result that they belong to is accepted.
    if constexpr (std::is_same_v<E, scheduler::AppendPoints> || std::is_same_v<E, scheduler::RecordArtifact>) {
      return;
    } else if constexpr (requires { effect.sweep.key; }) {
      ++versions_[effect.sweep.key];
    } else if constexpr (requires { effect.sweep; }) {
      ++versions_[effect.sweep];
    } else if constexpr (requires { effect.trial.sweep; }) {
      ++versions_[effect.trial.sweep];
    }
  }

  mutable std::mutex mutex_;
  std::map<scheduler::SweepKey, uint64_t> versions_;
};

}  // namespace loupe::coordinator::engine
