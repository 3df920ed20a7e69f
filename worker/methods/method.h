// What is trained: a tuning method's parameters, attached to a frozen network.
//
// K trials that share a base may run as one batch (a pack): every parameter carries a leading dimension over the run of
// slots that it belongs to, and the network sees [K·B, …], trial-major. Slot k computes, and is trained, exactly as it
// would be alone (K = 1).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/settings/settings.h"
#include "worker/nn/tuning_sites.h"
#include "worker/runtime/row_share.h"

namespace loupe::worker::methods {

class KeptMasks;  // dropout.h

struct NamedParameter {
  // "{block}.adapter.down.weight": the block's or layer's name in the checkpoint, then the method's own.
  std::string name;
  // [count, …], float32, a leaf that requires gradients: row i is slot first_slot + i's, and no other slot has a part
  // in it. What is done per slot (steps, clipping, averages, checkpoints) is done per row.
  torch::Tensor value;
  int64_t first_slot = 0;

  int64_t count() const { return value.size(0); }
  bool Holds(int64_t slot) const { return slot >= first_slot && slot < first_slot + count(); }
};

// One slot of a pack.
struct SlotOptions {
  settings::Settings settings;
  // Of the slot's own generator: its initial values (and dropout) do not depend on the other slots.
  uint64_t init_seed = 0;
};

// A base's weights by checkpoint name, as its networks hold them ("text_model." stripped).
struct BaseWeights {
  std::map<std::string, torch::Tensor> denoiser;
  std::map<std::string, torch::Tensor> conditioner;
};

// Attached to the networks from construction to destruction; they must outlive it. One thread at a time, but the
// networks' forward may recompute blocks on others. `slot` is always the pack's number, 0 … slots() − 1.
class Method {
 public:
  virtual ~Method() = default;

  // Of the whole pack that it is attached for, also where it holds a part of them only.
  virtual int64_t slots() const = 0;
  // In a fixed order that depends on the settings alone.
  virtual const std::vector<NamedParameter>& parameters() const = 0;

  // Off: the networks compute as if the method were not there, until it is on again (class images, base scores).
  virtual void SetEnabled(bool enabled) = 0;

  // Between the two (TrainingPass), forwards are those of a training step: dropout is on. `draws[k]` names slot k's
  // random numbers of this pass: the same number gives the same ones, in a recomputed block and after a restart alike.
  // `rows`: which of each slot's batch the pass is of, where several processes share it out. `kept`: where a step that
  // is repeated finds its masks, until EndTraining; else null.
  virtual void BeginTraining(const std::vector<int64_t>& /*draws*/, const runtime::RowShare& /*rows*/,
                             KeptMasks* /*kept*/) {}
  virtual void EndTraining() {}

  // One slot's values by their names in an adapter file (docs/formats.md), in torch.nn's orientation; on the CPU.
  virtual std::map<std::string, torch::Tensor> Export(int64_t slot) const = 0;
  // Replaces one slot's values. Throws c10::Error naming an array that is missing, left over or of another shape.
  virtual void Import(int64_t slot, const std::map<std::string, torch::Tensor>& arrays) = 0;

  // Makes one slot's values part of the base's weights: the arrays that it touches are replaced by new ones of the same
  // dtype (computed in float64), the others left as they are. INVALID_ARGUMENT says why that cannot be exact; then
  // nothing is changed.
  virtual absl::Status Merge(int64_t slot, BaseWeights& weights) const = 0;

  // Trainable numbers of one slot.
  int64_t ParametersOf(int64_t slot) const;
};

// Makes a method for one run of a pack's slots; `range` is their place, `slots` their options. Throws c10::Error with a
// sentence for the user when the settings do not fit the network, or a place is taken.
using MethodMaker = std::unique_ptr<Method>(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                            const nn::SlotRange& range, torch::Device device);

// Switches a method off for a scope.
class MethodDisabled {
 public:
  // `method` may be null.
  explicit MethodDisabled(Method* method) : method_(method) {
    if (method_ != nullptr) method_->SetEnabled(false);
  }
  ~MethodDisabled() {
    if (method_ != nullptr) method_->SetEnabled(true);
  }
  MethodDisabled(const MethodDisabled&) = delete;
  MethodDisabled& operator=(const MethodDisabled&) = delete;

 private:
  Method* const method_;
};

// A forward pass of training and its backward pass, for a scope.
class TrainingPass {
 public:
  TrainingPass(Method& method, const std::vector<int64_t>& draws, const runtime::RowShare& rows = {},
               KeptMasks* kept = nullptr)
      : method_(method) {
    method_.BeginTraining(draws, rows, kept);
  }
  ~TrainingPass() { method_.EndTraining(); }
  TrainingPass(const TrainingPass&) = delete;
  TrainingPass& operator=(const TrainingPass&) = delete;

 private:
  Method& method_;
};

}  // namespace loupe::worker::methods
