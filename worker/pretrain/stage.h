// One network's training: a loss per step, driven by RunStage with checkpoints, a moving average and a time limit.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "worker/pretrain/muon_adamw.h"

namespace loupe::worker {

// What a stage trains and on what. Every random number of a step comes from StepGenerator(step, …), so that a step's
// arithmetic depends on the seed, the step and the weights, and on nothing before: resuming needs no generator states.
class Stage {
 public:
  virtual ~Stage() = default;

  virtual std::string name() const = 0;  // "vae", "clip", "unet"; stands in file names and seeds
  virtual torch::nn::Module& network() = 0;
  // The loss to be minimised (with its graph) at this step, and its parts for the log (any single numbers by name,
  // without a graph: they are read later, many steps at once, since reading one waits for the device).
  virtual torch::Tensor Loss(int64_t step, std::map<std::string, torch::Tensor>& parts) = 0;
  // Just before a checkpoint, with the averaged weights in the network: measure, draw a sheet, write the folder.
  // Returns one line for the log. What it writes must be the same when it is called again for the same step.
  virtual absl::StatusOr<std::string> Look(int64_t step) = 0;
};

struct StageSchedule {
  int64_t steps = 0;
  int64_t warm_up = 50;
  double decay = 0.2;      // share of the steps, at the end, over which the rates fall to 0 along a straight line
  double average = 0.998;  // EMA's decay; less in the first steps: min(average, (1 + step) / (10 + step))
  int64_t checkpoint_every = 200;
  int64_t look_every = 1000;  // a multiple of checkpoint_every; the last step always
  MuonAdamWOptions rates;
};

// 1 for most of the way.
double RateFactor(const StageSchedule& schedule, int64_t step);

// A generator for one purpose in one step: seeded with DeriveSeed(seed, step, "pretrain/" + purpose). The CPU's,
// whatever the device: draws are the same on all.
at::Generator StepGenerator(uint64_t seed, int64_t step, const std::string& purpose);

// Rows of the step's batch: every item once per epoch, in an order drawn per epoch; a batch may span two epochs.
torch::Tensor BatchRows(uint64_t seed, const std::string& stage, int64_t step, int64_t batch, int64_t items);

// Last layers of residual branches and of the whole network at zero, so that training starts from the identity.
void ZeroLastLayers(torch::nn::Module& network, const std::vector<std::string>& endings);

// When training must pause: at a moment (of `clock`), for hours given on the command line; after so many steps of each
// part in this run, for tests.
struct StageLimit {
  const Clock* clock = nullptr;  // null: no time limit
  absl::Duration deadline;       // against clock->MonotonicNow()
  int64_t steps = -1;            // −1: no such limit
};

enum class StageEnd { kFinished, kPaused };

// Trains until schedule.steps or the limit, from `checkpoint` (a safetensors file) if it is there, else from the
// network's present weights. Writes `checkpoint` atomically every checkpoint_every steps and at the end, with weights,
// average, momenta, step and seed: a run that was killed and resumed, any number of times, ends in the same file byte
// for byte (on one machine with one number of threads). On return the network holds the averaged weights.
// INVALID_ARGUMENT: the checkpoint is of another stage, seed or network. FAILED_PRECONDITION: the loss is not finite
// (the last checkpoint stays). Errors of writing and of Look pass through.
absl::StatusOr<StageEnd> RunStage(Stage& stage, const StageSchedule& schedule, uint64_t seed, const StageLimit& limit,
                                  const std::string& checkpoint);

}  // namespace loupe::worker
