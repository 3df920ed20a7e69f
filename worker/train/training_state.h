// What training changes, of a trial as of a whole network: the values, their optimiser's state and their running
// average.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/train/optimizer.h"
#include "worker/train/running_average.h"
#include "worker/train/slot_parameters.h"

namespace loupe::worker::train {

// Not thread-safe.
class TrainingState {
 public:
  // `ema_decay` is the running average's (running_average.h); 0: none is kept. `optimizer` is of the same parameters.
  TrainingState(std::vector<SlotParameter> parameters, std::unique_ptr<Optimizer> optimizer, double ema_decay);

  const std::vector<SlotParameter>& parameters() const { return parameters_; }
  int64_t steps() const { return optimizer_->steps(); }

  // One optimiser step from the gradients that the parameters hold; then the average takes the new values in, as the
  // steps()-th. Returns Optimizer::Step's norm.
  torch::Tensor Step(double rate_factor);
  // Its three parts, as Optimizer has them.
  void Prepare(double rate_factor);
  torch::Tensor Apply(const torch::Tensor& skip);
  void Commit() { optimizer_->Commit(); }
  // What Apply writes into.
  std::vector<torch::Tensor> Changed() const;
  void ClearGradients();

  // The same parameters elsewhere, by order and name: they get the trained values there. Throws c10::Error when they
  // are others.
  void MoveTo(std::vector<SlotParameter> there);

  // Values and averages change places; twice is as before. Nothing without an average.
  void SwapAverage() { average_.Swap(Values()); }

  // Of the values and their average: which are not finite, as "name: …"; empty when all are. Waits for the device.
  std::string DescribeNotFinite() const;

  // "value.{name}", "average.{name}" and "optimizer.{what the optimiser exports}". On the CPU they are the state's own
  // memory: to be written before the next step.
  TensorMap Save() const;
  // Throws c10::Error naming an array that is missing or of another shape.
  void Restore(const TensorMap& arrays, int64_t steps);

 private:
  std::vector<torch::Tensor> Values() const;

  std::vector<SlotParameter> parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  double ema_decay_;
  RunningAverage average_;  // beside parameters_
};

// Entries of `from` with `prefix` before their names; and those that have it, without it.
void AddWithPrefix(const std::string& prefix, const TensorMap& from, TensorMap& into);
TensorMap WithPrefixRemoved(const std::string& prefix, const TensorMap& from);

}  // namespace loupe::worker::train
