// What becomes of a trial. Stored, sent (loupe.v1.Trial.State) and shown: do not renumber, do not rename.
#pragma once

#include <cstdint>
#include <string_view>

namespace loupe {

enum class TrialState : uint8_t {
  kQueued = 1,
  kRunning = 2,
  kSucceeded = 3,
  kFailed = 4,
  kCancelled = 5,
  kQuarantined = 6
};

constexpr bool IsTerminal(TrialState state) { return state != TrialState::kQueued && state != TrialState::kRunning; }

// "succeeded" and so on: how states are written in messages, tables, CSV and JSON.
constexpr std::string_view TrialStateName(TrialState state) {
  switch (state) {
    case TrialState::kQueued:
      return "queued";
    case TrialState::kRunning:
      return "running";
    case TrialState::kSucceeded:
      return "succeeded";
    case TrialState::kFailed:
      return "failed";
    case TrialState::kCancelled:
      return "cancelled";
    case TrialState::kQuarantined:
      return "quarantined";
  }
  return "unknown";
}

}  // namespace loupe
