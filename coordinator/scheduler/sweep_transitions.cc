#include "coordinator/scheduler/sweep_transitions.h"

#include <array>

#include "fmt/format.h"

namespace loupe::coordinator::scheduler {
namespace {

constexpr SweepState kRefused{};

// Row: verb (pause, resume, stop, cancel). Column: active, paused, stopping, completed, stopped, cancelled.
using S = SweepState;
constexpr std::array<std::array<SweepState, 6>, 4> kTable = {{
    {S::kPaused, S::kPaused, kRefused, kRefused, kRefused, kRefused},
    {S::kActive, S::kActive, kRefused, kRefused, kRefused, kRefused},
    {S::kStopping, S::kStopping, S::kStopping, kRefused, S::kStopped, kRefused},
    {S::kCancelled, S::kCancelled, S::kCancelled, kRefused, kRefused, S::kCancelled},
}};

}  // namespace

absl::StatusOr<SweepState> Apply(SweepVerb verb, SweepState state) {
  const SweepState next = kTable[static_cast<size_t>(verb)][static_cast<size_t>(state) - 1];
  if (next != kRefused) return next;
  return absl::FailedPreconditionError(fmt::format("a sweep that is {} cannot be {}", NameOf(state), NameOf(verb)));
}

const char* NameOf(SweepState state) {
  switch (state) {
    case SweepState::kActive:
      return "active";
    case SweepState::kPaused:
      return "paused";
    case SweepState::kStopping:
      return "stopping";
    case SweepState::kCompleted:
      return "completed";
    case SweepState::kStopped:
      return "stopped";
    case SweepState::kCancelled:
      return "cancelled";
    case SweepState::kCreating:
      return "being created";
    case SweepState::kDeleting:
      return "being deleted";
  }
  return "unknown";
}

const char* NameOf(SweepVerb verb) {
  switch (verb) {
    case SweepVerb::kPause:
      return "paused";
    case SweepVerb::kResume:
      return "resumed";
    case SweepVerb::kStop:
      return "stopped";
    case SweepVerb::kCancel:
      return "cancelled";
  }
  return "changed";
}

}  // namespace loupe::coordinator::scheduler
