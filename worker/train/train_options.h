// How one trial is trained: all of it is the slot's own, in a pack as alone.
#pragma once

#include <torch/types.h>

#include <cstdint>

#include "worker/train/adamw.h"
#include "worker/train/rate_schedule.h"

namespace loupe::worker::train {

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
  // The method trains the conditioner too: prompts are encoded in each step, with gradients.
  bool trains_conditioner = false;
};

}  // namespace loupe::worker::train
