// The training loop's body: one optimiser step of a method on a frozen base, for a pack of K trials at once (K = 1 as a
// rule), and the state that makes an interrupted run go on bit for bit.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/adapters/method.h"
#include "worker/models/base_model.h"
#include "worker/train/adamw.h"
#include "worker/train/batch_source.h"
#include "worker/train/random_stream.h"

namespace loupe::worker {

// One trial of the pack.
struct TrainSlot {
  std::unique_ptr<BatchSource> source;
  RandomStream noise;
  RandomStream timesteps;
};

struct TrainOptions {
  AdamWOptions optimizer;
};

// The base and the method must outlive it; nothing of the base but its taps changes. Not thread-safe.
class Trainer {
 public:
  // As many slots as the method has; all sources with the same batch size.
  Trainer(BaseModel& base, Method& method, std::vector<TrainSlot> slots, const TrainOptions& options);

  struct StepResult {
    std::vector<double> losses;          // per slot
    std::vector<double> gradient_norms;  // per slot, before clipping; NaN where not computed (mixed packs)
  };
  // Draws a batch, noise and timesteps for every slot, predicts, and takes one optimiser step. A loss that is not finite
  // is returned as it is and no step is taken.
  StepResult Step();

  int64_t steps() const { return optimizer_.steps(); }

  // Writes everything that Step depends on, atomically. `fingerprint` names the run: settings, seeds, base, data.
  // Throws std::runtime_error when the disk refuses.
  void SaveCheckpoint(const std::string& path, const std::string& fingerprint) const;
  // Goes on from a checkpoint. False, and nothing is changed, when there is none at `path` or it is of another run;
  // throws c10::Error when it is of this run but damaged inside.
  bool LoadCheckpoint(const std::string& path, const std::string& fingerprint);

 private:
  struct Drawn {
    torch::Tensor latents, context, weights, noise, timesteps;
  };
  Drawn Draw();

  BaseModel& base_;
  Method& method_;
  std::vector<TrainSlot> slots_;
  AdamW optimizer_;
};

}  // namespace loupe::worker
