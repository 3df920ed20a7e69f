// The training phase of one trial: steps until its budget is spent, with checkpoints, validation, and an end with a
// reason where training goes wrong.
#pragma once

#include <functional>
#include <string>

#include "worker/executor/attempt.h"
#include "worker/runtime/user_error.h"
#include "worker/train/trainer.h"

namespace loupe::worker {

// A UserError that says how training diverged, and which settings are to blame.
UserError DivergedError(const Settings& settings, const std::string& how);

struct TrialTraining {
  const AttemptSpec& spec;
  AttemptObserver& observer;
  BaseModel& base;
  // Names everything that training depends on; a checkpoint of anything else is not used.
  std::string fingerprint;
  ValidationRows validation;
  // Called after steps where score.every says so, with the average in place of the trained values.
  std::function<void(int64_t step)> score;
};

// Takes the trainer's slot 0 from its checkpoint, where there is one, to the end of its budget, and leaves the average
// (where there is one) in place of the trained values. Throws Stopped (after writing a checkpoint) and UserError.
void TrainToTheEnd(const TrialTraining& training, Trainer& trainer);

}  // namespace loupe::worker
