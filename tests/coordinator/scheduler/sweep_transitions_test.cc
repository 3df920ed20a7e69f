#include "coordinator/scheduler/sweep_transitions.h"

#include <gtest/gtest.h>

#include <optional>

namespace loupe::coordinator::scheduler {
namespace {

// The contract of loupe/v1/sweep.proto written down a second time, as sentences: a pause or resume needs a sweep that
// goes on; stop and cancel end one; a verb whose aim is reached already is no error.
std::optional<SweepState> Expected(SweepVerb verb, SweepState state) {
  const bool goes_on = state == SweepState::kActive || state == SweepState::kPaused;
  switch (verb) {
    case SweepVerb::kPause:
      return goes_on ? std::optional(SweepState::kPaused) : std::nullopt;
    case SweepVerb::kResume:
      return goes_on ? std::optional(SweepState::kActive) : std::nullopt;
    case SweepVerb::kStop:
      if (goes_on || state == SweepState::kStopping) return SweepState::kStopping;
      return state == SweepState::kStopped ? std::optional(SweepState::kStopped) : std::nullopt;
    case SweepVerb::kCancel:
      if (goes_on || state == SweepState::kStopping || state == SweepState::kCancelled) return SweepState::kCancelled;
      return std::nullopt;
  }
  return std::nullopt;
}

TEST(SweepTransitionsTest, EveryVerbFromEveryStateIsAsTheContractSays) {
  for (const SweepVerb verb : {SweepVerb::kPause, SweepVerb::kResume, SweepVerb::kStop, SweepVerb::kCancel}) {
    for (int state = 1; state <= 6; ++state) {
      const absl::StatusOr<SweepState> next = Apply(verb, static_cast<SweepState>(state));
      const std::optional<SweepState> expected = Expected(verb, static_cast<SweepState>(state));
      EXPECT_EQ(next.ok(), expected.has_value()) << NameOf(verb) << " " << state;
      if (next.ok() && expected) {
        EXPECT_EQ(*next, *expected) << NameOf(verb) << " " << state;
      } else {
        EXPECT_EQ(next.status().code(), absl::StatusCode::kFailedPrecondition);
      }
    }
  }
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
