// One optimiser of one trial's parameters, or of a whole network's: steps, and a state that can be saved.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "worker/train/batch_source.h"
#include "worker/train/slot_parameters.h"

namespace loupe::worker::train {

// Changes the parameters' values in place. Not thread-safe. Deterministic: the same values, gradients and state give
// the same bits, whatever else is trained beside.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // One step with the gradients that the parameters hold; their holder clears them. `rate_factor` multiplies every
  // learning rate (schedules). Returns the gradients' 2-norm over all parameters before clipping, [1], on the
  // parameters' device; undefined from an optimiser that has no use for it.
  torch::Tensor Step(double rate_factor) {
    Prepare(rate_factor);
    torch::Tensor norm = Apply({});
    Commit();
    return norm;
  }
  // Its three parts. First what changes from step to step,
  virtual void Prepare(double rate_factor) = 0;
  // then the work, which may be recorded and repeated (runtime/recorded_call.h): it takes that from where Prepare puts
  // it. `skip`, a float32 number on the device, is 1 where nothing is to be changed, and else 0; undefined: 0.
  virtual torch::Tensor Apply(const torch::Tensor& skip) = 0;
  // and last, where nothing was skipped, the count.
  void Commit() {
    ++steps_;
    // Work that is repeated, and AdamW's fused operator, do not tell whoever has made something of the values
    // (nn/kernel_layers.h, nn/s4d.h, LibTorch's own check of what a gradient needs).
    for (const SlotParameter& parameter : parameters_) parameter.value().unsafeGetTensorImpl()->bump_version();
  }

  int64_t steps() const { return steps_; }
  // What Apply writes into besides the values.
  virtual std::vector<torch::Tensor> Moments() const = 0;

  // The same parameters elsewhere (in another pack): moments and steps stay.
  void Rebind(std::vector<SlotParameter> parameters) {
    TORCH_CHECK(parameters.size() == parameters_.size(), "the slot has ", parameters.size(), " parameters; expected ",
                parameters_.size());
    parameters_ = std::move(parameters);
  }

  // Moments by parameter ("{name}.exp_avg"), and back. On the CPU they are the optimiser's own memory: a network's
  // moments are not held twice. Import throws c10::Error naming an array that is missing or of another shape.
  virtual TensorMap Export() const = 0;
  virtual void Import(const TensorMap& arrays, int64_t steps) = 0;

 protected:
  explicit Optimizer(std::vector<SlotParameter> parameters) : parameters_(std::move(parameters)) {}
  Optimizer(Optimizer&&) = default;

  std::vector<SlotParameter> parameters_;
  int64_t steps_ = 0;
};

}  // namespace loupe::worker::train
