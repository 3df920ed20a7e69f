// Training a whole network by an objective, as pretraining does: a loss per step, with checkpoints, a running average,
// a look at what has been learned, and a time limit. (Methods on a frozen base, in packs, are trainer.h's; what a step
// changes, and how it is kept, is the same for both: training_state.h, checkpoint.h.)
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "worker/train/muon_adamw.h"
#include "worker/train/rate_schedule.h"

namespace loupe::worker::train {

// What a network is trained for, and on what. A step's random numbers depend on the seed and the step alone, so its
// arithmetic depends on those and the weights and on nothing before: resuming needs no generator's state.
class Objective {
 public:
  virtual ~Objective() = default;

  virtual std::string name() const = 0;  // "vae", "clip", "unet"; stands in the log, in file names and in seeds
  virtual torch::nn::Module& network() = 0;
  // The loss to be minimised (with its graph) at this step, and its parts for the log (any single numbers by name,
  // without a graph: they are read later, many steps at once, since reading one waits for the device).
  virtual torch::Tensor Loss(int64_t step, std::map<std::string, torch::Tensor>& parts) = 0;
  // Just before a checkpoint, with the averaged weights in the network: measure, draw a sheet, write the folder.
  // Returns one line for the log. What it writes must be the same when it is called again for the same step.
  virtual absl::StatusOr<std::string> Look(int64_t step) = 0;
};

struct NetworkTraining {
  int64_t steps = 0;
  int64_t warm_up = 50;
  double decay = 0.2;      // share of the steps, at the end, over which the rates fall to 0 along a straight line
  double average = 0.998;  // the running average's decay (running_average.h); 0: none, the last weights are taken
  int64_t checkpoint_every = 200;
  int64_t look_every = 1000;  // a multiple of checkpoint_every; the last step always
  MuonAdamWOptions rates;

  RateSchedule schedule() const { return {.warmup_steps = warm_up, .linear_tail = decay, .total_steps = steps}; }
};

// When training must pause: at a moment (of `clock`), for hours given on the command line; after so many steps of each
// network in this run, for tests.
struct TrainingLimit {
  const Clock* clock = nullptr;  // null: no time limit
  absl::Duration deadline;       // against clock->MonotonicNow()
  int64_t steps = -1;            // −1: no such limit
};

enum class TrainingEnd { kFinished, kPaused };

// Trains until training.steps or the limit, from `checkpoint` if it is there, else from the network's present weights.
// Writes `checkpoint` atomically every checkpoint_every steps and at the end: a run that was killed and resumed, any
// number of times, ends in the same file byte for byte (on one machine with one number of threads). `fingerprint` says
// whose it is in words that a reader can compare ("stage 'vae', seed '5'"). On return the network holds the averaged
// weights, and no parameter requires gradients.
// INVALID_ARGUMENT: the checkpoint has another fingerprint, or is of another network. DATA_LOSS: it is damaged.
// FAILED_PRECONDITION: the loss or a weight is not finite (the last checkpoint stays). Errors of writing and of Look
// pass through.
absl::StatusOr<TrainingEnd> TrainNetwork(Objective& objective, const NetworkTraining& training,
                                         const std::string& fingerprint, const TrainingLimit& limit,
                                         const std::string& checkpoint);

}  // namespace loupe::worker::train
