// The training loop's body: one optimiser step of a method on a frozen base, for a pack of K trials at once (K = 1 as a
// rule), and the state that makes an interrupted run go on bit for bit.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/base/base_model.h"
#include "worker/diffusion/learned_variance.h"
#include "worker/methods/method.h"
#include "worker/runtime/random_stream.h"
#include "worker/tasks/batch_source.h"
#include "worker/train/adamw.h"
#include "worker/train/loss_scaler.h"
#include "worker/train/rate_schedule.h"

namespace loupe::worker {

// One trial of the pack.
struct TrainSlot {
  std::unique_ptr<BatchSource> source;
  RandomStream noise;
  RandomStream timesteps;
};

struct TrainOptions {
  AdamWOptions optimizer;
  RateSchedule schedule;
  // Batches per optimiser step; their gradients are averaged.
  int64_t accumulation = 1;
  // Rows are weighted by min(SNR, gamma)/SNR (for v-prediction /(SNR + 1)): Hang et al. 2023, arXiv 2303.09556 §3.4. 0:
  // off.
  double min_snr_gamma = 0;
  // λ of L_hybrid = L_simple + λ L_vlb, which trains a predicted variance (learned_variance.h); only for a base that
  // predicts one. L_vlb in bits per number, so 0.001 with 1,000 timesteps is the paper's. 0: off.
  double vlb_weight = 0;
  // The noise gets this much of a second draw that is constant over each channel of a row. 0: off.
  double noise_offset = 0;
  // The running average's decay d; at step t it is min(d, (1 + t)/(10 + t)), so that early values count little. 0: off.
  double ema_decay = 0;
  // The network's forward pass under autocast in kBFloat16 or kHalf (autocast_scope.h); kFloat: as it is.
  torch::ScalarType precision = torch::kFloat;
  // The loss is scaled dynamically from here on (loss_scaler.h), for kHalf; 0: not at all.
  double loss_scale = 0;
  // Blocks are computed a second time in the backward pass instead of being remembered (recompute.h).
  bool recompute = false;
};

// The base and the method must outlive it; nothing of the base but its taps changes. Not thread-safe.
class Trainer {
 public:
  // As many slots as the method has; all sources with the same batch size.
  Trainer(BaseModel& base, Method& method, std::vector<TrainSlot> slots, const TrainOptions& options);

  struct StepResult {
    std::vector<double> losses;          // per slot
    std::vector<double> gradient_norms;  // per slot, before clipping; NaN where not computed (mixed packs)
    // Per slot: the squared error of the prediction over that of predicting 0, of the run's first step (before any
    // change) and averaged over about the last 20. A network that knows anything stays below 1.
    std::vector<double> first_errors, running_errors;
    // The scaled gradients overflowed: no step was taken, and the next one is scaled less.
    bool skipped = false;
    // Of a loss that is not finite: a sentence on the base, the precision or the adapter's initial values, where these
    // and not training gave it; empty otherwise.
    std::string cause;
  };
  // Draws `accumulation` batches with noise and timesteps for every slot, predicts, and takes one optimiser step. A
  // loss that is not finite is returned as it is and no step is taken. Throws UserError when the gradients overflow
  // even at the least loss scale.
  StepResult Step();

  int64_t steps() const { return optimizer_.steps(); }

  // Of the trained values (and their average): which are not finite, as "name: …"; empty when all are. Waits for the
  // device.
  std::string DescribeNotFinite() const;

  // Exchanges the trained values and their running average; nothing without one. Call it twice to go on training.
  void SwapAverage();

  // Writes everything that Step depends on, atomically. `fingerprint` names the run: settings, seeds, base, data.
  // Throws std::runtime_error when the disk refuses.
  void SaveCheckpoint(const std::string& path, const std::string& fingerprint) const;
  // Goes on from a checkpoint. False, and nothing is changed, when there is none at `path`, it is of another run, or it
  // is damaged (it holds a digest of its arrays).
  bool LoadCheckpoint(const std::string& path, const std::string& fingerprint);

 private:
  struct Drawn {
    torch::Tensor latents, context, weights, noise, timesteps;
  };
  Drawn Draw();
  torch::Tensor Predict(const torch::Tensor& noisy, const Drawn& drawn);
  // [2, K]: each slot's loss; and, without gradients, its squared error over that of predicting 0.
  torch::Tensor SlotLosses(const Drawn& drawn);
  // Why the loss of this batch is not finite; empty when training made it so. Costs forward passes, of a step that is
  // lost anyway.
  std::string CauseOf(const Drawn& drawn);
  bool UnscaleGradients();
  void ClearGradients();
  void UpdateAverage();
  void UpdateErrors(const torch::Tensor& errors);

  BaseModel& base_;
  Method& method_;
  std::vector<TrainSlot> slots_;
  const TrainOptions options_;
  AdamW optimizer_;
  LossScaler scaler_;
  LearnedVariance variance_;
  torch::Tensor errors_;                // [2, K], float64, CPU: the first step's, the running ones
  std::vector<torch::Tensor> average_;  // beside the method's parameters; empty without EMA
};

// The mean squared error of the base's (and its method's) prediction on fixed rows: a loss that can be compared between
// steps and trials. Without gradients; nothing is drawn.
struct ValidationRows {
  torch::Tensor latents, context, noise, timesteps;
};
double ValidationLoss(BaseModel& base, const ValidationRows& rows);

}  // namespace loupe::worker
