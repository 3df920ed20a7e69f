// One trial's training but for the network's passes, which a pack may share: what it draws, its loss, its optimiser
// step, its average, and the state that makes an interrupted run go on bit for bit.
#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "worker/base/base_model.h"
#include "worker/diffusion/learned_variance.h"
#include "worker/methods/method.h"
#include "worker/ranks/rank_group.h"
#include "worker/runtime/random_stream.h"
#include "worker/train/batch_source.h"
#include "worker/train/checkpoint.h"
#include "worker/train/loss_scaler.h"
#include "worker/train/train_options.h"
#include "worker/train/training_state.h"

namespace loupe::worker::train {

// One trial of the pack, as it is handed in.
struct TrainSlot {
  std::unique_ptr<BatchSource> source;
  runtime::RandomStream noise;
  runtime::RandomStream timesteps;
  TrainOptions options;
  // Among whose members each batch's rows are shared out; null: this process computes them all. Outlives the slot.
  ranks::RankGroup* ranks = nullptr;
};

// What became of a slot in a step.
struct SlotStep {
  enum class Kind {
    kStepped,
    kSkipped,  // the scaled gradients overflowed: no step was taken, and the next one is scaled less
    kFailed,   // the loss is not finite, or the gradients overflow even at the least loss scale: no step was taken
    kLeft,     // it is no longer in the pack
  };
  Kind kind = Kind::kLeft;
  double loss = 0;
  double gradient_norm = 0;  // before clipping
  // The squared error of the prediction over that of predicting 0, of the run's first step (before any change) and
  // averaged over about the last 20. A network that knows anything stays below 1.
  double first_error = 0, running_error = 0;
  // kFailed: a sentence on the base, the precision or the method's initial values, where these and not training are the
  // reason; empty otherwise.
  std::string cause;
};

// Its arithmetic does not depend on the pack. The base must outlive it; not thread-safe.
class TrainedSlot {
 public:
  TrainedSlot(const base::BaseModel& base, TrainSlot given, const methods::Method& method, int64_t row);

  const TrainSlot& given() const { return given_; }
  const TrainOptions& options() const { return given_.options; }
  int64_t steps() const { return state_.steps(); }
  ranks::RankGroup* ranks() const { return given_.ranks; }
  const std::vector<SlotParameter>& parameters() const { return state_.parameters(); }

  // Rows of its next batch: all are drawn, and of several ranks each keeps its share.
  struct Drawn {
    Batch batch;
    torch::Tensor noise, timesteps, noisy;
    int64_t number = 0;  // of this batch in the run: what the method's own random numbers of its pass go by
    runtime::RowShare rows;
    torch::Tensor drawn_noise, drawn_timesteps;  // as they were drawn, on the CPU

    // What a recorded step reads; in one order.
    std::array<torch::Tensor*, 6> Tensors();
    // Whether latents with noise, timesteps and condition are the same.
    bool HasRowsOf(const Drawn& other) const;
  };
  // Of the step that comes next, its `batch`-th, in order. The same again until the step is taken: a pass that ended in
  // an error can be made once more, and so can a draw.
  const Drawn& Draw(size_t batch);
  // The batches of the step after the one that is drawn, while a device is still at that one. Nobody sees it: the slot
  // is saved as if they were not drawn yet.
  void DrawAhead();
  // Whether batches are drawn whose step is not taken: there is no state to go on from then.
  bool mid_step() const { return !step_.empty(); }

  // From the network's output for these rows, as scalars: the loss, with its graph, divided by the accumulation; and
  // the mean squared errors of the prediction and of predicting 0.
  struct Losses {
    torch::Tensor loss, error, error_of_zero;
  };
  Losses LossesOf(const torch::Tensor& output, const Drawn& drawn) const;
  // The loss as the backward pass begins with it: times the loss scale.
  torch::Tensor Scaled(const torch::Tensor& loss) const { return options().loss_scale > 0 ? loss * scale_ : loss; }

  // One step from the gradients that have come, in three parts. What is this step's own is put on the device before
  // its first pass.
  void Prepare();
  // Then the device's part, which may be recorded: no step where the loss (a number, summed over the batches) is not
  // finite, or the gradients overflow.
  struct Verdict {
    torch::Tensor overflow;       // [1], 1 or 0
    torch::Tensor gradient_norm;  // [1]
  };
  Verdict Apply(const torch::Tensor& loss);
  // What it writes into.
  std::vector<torch::Tensor> Changed() const { return state_.Changed(); }
  // And what came of it, with the numbers of the verdict; `loss` is finite.
  SlotStep Conclude(double loss, double relative_error, bool overflow, double gradient_norm);
  // Instead of that, where the loss is not finite.
  void GiveUpStep() { step_.clear(); }

  // Its row of another pack's method, made from the same settings: takes the trained values there.
  void MoveTo(const methods::Method& method, int64_t row);
  // The values written into a row of another method's parameters, which goes on by itself.
  void CopyTo(methods::Method& method, int64_t row) const;

  std::string DescribeNotFinite() const { return state_.DescribeNotFinite(); }
  void SwapAverage() { state_.SwapAverage(); }
  // To be written before the next step: on the CPU its arrays are the slot's own memory. Not in the middle of one.
  Checkpoint Save() const;
  // Throws c10::Error naming an array that is missing or of another shape.
  void Restore(const Checkpoint& checkpoint);

 private:
  torch::Tensor UnscaleGradients();
  void UpdateErrors(double error);
  // A batch, and where the slot was before it in all that is drawn from. An exception leaves it there.
  struct Ahead {
    TensorMap position;  // as a checkpoint has it
    Drawn drawn = {};
  };
  Ahead DrawNext();
  Drawn DrawFromStreams();
  TensorMap Position() const;
  void GoTo(const TensorMap& position);

  const base::BaseModel& base_;
  TrainSlot given_;
  TrainingState state_;
  LossScaler scaler_;
  torch::Tensor scale_;  // the scaler's, on the device; a power of two
  diffusion::LearnedVariance variance_;
  int64_t drawn_ = 0;        // batches
  std::deque<Drawn> step_;   // batches of the step that is not taken yet; references to them last
  std::deque<Ahead> ahead_;  // of those after it
  torch::Tensor errors_;     // [2], float64, CPU: the first step's, the running ones
};

}  // namespace loupe::worker::train
