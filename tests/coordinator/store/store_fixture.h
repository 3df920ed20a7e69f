// Records that store tests write.
#pragma once

#include <string>

#include "common/sha256.h"
#include "coordinator/store/store.h"

namespace loupe::coordinator::store {

inline const absl::Time kSomeTime = absl::FromUnixSeconds(1'800'000'000);

inline scheduler::InsertSweep NewSweep(scheduler::SweepKey key, const std::string& id, int64_t cells = 3,
                                       int32_t replicates = 2) {
  scheduler::SweepRecord sweep;
  sweep.key = key;
  sweep.id = id;
  sweep.uid = "uid-" + id;
  sweep.display_name = "Title of " + id;
  sweep.spec = std::string("spec\0with a zero", 16);
  sweep.cells = cells;
  sweep.replicates = replicates;
  sweep.seed = 0xffffffffffffffffULL;
  sweep.priority = -3;
  sweep.create_time = sweep.update_time = kSomeTime;
  return {sweep, [](int64_t cell) { return "{\"scale\":\"" + std::to_string(cell) + "\"}"; }};
}

inline scheduler::StartAttempt Start(scheduler::TrialKey trial, int64_t epoch, const std::string& worker = "w") {
  return {trial, epoch, Sha256Hex("token"), worker, "s", kSomeTime};
}

inline scheduler::UpdateTrial Running(scheduler::TrialKey trial, int64_t epoch) {
  return {.trial = trial, .state = TrialState::kRunning, .epoch = epoch};
}

// Everything that accepting a result writes.
inline scheduler::Effects Accepting(scheduler::TrialKey trial, int64_t epoch, double score) {
  return {scheduler::EndAttempt{trial, epoch, scheduler::AttemptEnd::kSucceeded, std::nullopt, kSomeTime},
          scheduler::AcceptResult{trial, epoch, 42,
                                  scheduler::Result{{{"clip_i", score}}, {}, 1, 2, {{"version", "x"}}}, kSomeTime},
          scheduler::UpdateTrial{.trial = trial, .state = TrialState::kSucceeded, .epoch = epoch}};
}

}  // namespace loupe::coordinator::store
