// The training phase of one trial, a step at a time: until its budget is spent, with checkpoints, validation, and an
// end with a reason where training goes wrong.
#pragma once

#include <map>
#include <string>

#include "worker/executor/attempt.h"
#include "worker/runtime/user_error.h"
#include "worker/train/trainer.h"

namespace loupe::worker::executor {

// A UserError that says how training diverged, and which settings are to blame.
runtime::UserError DivergedError(const settings::Settings& settings, const std::string& how);

// Where an attempt's checkpoint lies.
std::string CheckpointFile(const AttemptSpec& spec);

// A slot of a pack's trainer. Everything throws what the trainer throws.
class TrialTraining {
 public:
  struct Parts {
    const AttemptSpec& spec;
    AttemptObserver& observer;
    // Names everything that training depends on; a checkpoint of anything else is not used.
    std::string fingerprint;
  };
  // Takes the trainer's slot from its checkpoint, where there is one. The trainer must outlive it.
  TrialTraining(Parts parts, train::Trainer& trainer, size_t slot);

  size_t slot() const { return slot_; }
  int64_t steps() const { return trainer_.steps(slot_); }
  bool ended() const { return stopped_at_ > 0 || steps() >= total_; }
  // The step after which it was ended before its budget was spent; 0 where it was not.
  int64_t stopped_at() const { return stopped_at_; }

  // Before a step: throws Stopped, after writing a checkpoint, where the attempt is told to stop. Where it is told to
  // finish, it has ended from then on.
  void StopIfTold();
  // A checkpoint, where the settings have any.
  void SaveNow();
  // After a step of the trainer. Throws UserError where the step shows that training has gone wrong.
  void Take(const train::SlotStep& step);
  // What train.validate_every and score.every ask for after that step and is not there yet: the validation loss, and a
  // point of every score's curve. Until it is, there is nothing to save.
  bool validation_due() const { return validation_due_; }
  bool scores_due() const { return scores_due_; }
  // Throws UserError where it is not finite.
  void TakeValidation(double loss);
  void TakeScores(const std::map<std::string, double>& scores);
  // When all that was due is there: a checkpoint, where one is.
  void EndStep();
  // After the last step: leaves the average (where there is one) in place of the trained values, once; there is nothing
  // to save from then on.
  void End();

 private:
  bool IsDue(std::string_view setting) const;

  const Parts parts_;
  train::Trainer& trainer_;
  const size_t slot_;
  const std::string checkpoint_;
  const int64_t checkpoint_every_;
  const int64_t total_;
  int64_t stopped_at_ = 0;
  bool validation_due_ = false, scores_due_ = false, checkpoint_due_ = false;
  bool closed_ = false;
};

}  // namespace loupe::worker::executor
