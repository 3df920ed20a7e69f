// The training loop's body: one optimiser step of a method on a frozen base, for a pack of K trials at once (K = 1 as a
// rule).
//
// A pack equals K runs alone: everything but the network's passes is a slot's own (trained_slot.h), and a slot that
// ends, fails, is stopped or cancelled leaves, without the others noticing. Slots have passes of their own, or share
// them in groups (Regroup): their rows are one batch [K·B, …]. Matrix products and convolutions may add up a batch of
// K·B rows in another order than one of B (docs/trial.md has the measured differences), so a group of several slots
// equals solo runs up to rounding, and groups of one slot each equal them bit for bit. On a CPU, where eight passes of
// B rows cost about what one of 8·B costs, leave each slot its own; on a GPU, share.
//
// A shared pass may be wider than it has slots: idle ones, whose rows repeat the last slot's, keep its shapes the same
// while slots come and go, and with them what each of them computes, which may depend on how wide the pass is.
//
// The other way round, one trial may have several processes (TrainSlot::ranks): each has a trainer with the same slot
// and draws the same batches, computes its share of their rows, and takes the same optimiser step from gradients that
// were added up over all of them. Losses are sums over rows, so that it is the step of one process, but for the order
// in which rows are added up (docs/trial.md has the measured differences).
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/base/base_model.h"
#include "worker/methods/dropout.h"
#include "worker/methods/method.h"
#include "worker/nn/shared_prefix.h"
#include "worker/ranks/gradient_sum.h"
#include "worker/runtime/recorded_call.h"
#include "worker/train/trained_slot.h"

namespace loupe::worker::train {

// Why two slots cannot share a forward pass, as a sentence; empty when they can. (Their methods must be packable too:
// the method registry knows.)
std::string WhyNotOneForward(const TrainSlot& a, const TrainSlot& b);

// The base must outlive it; nothing of it but its method's places changes. Not thread-safe.
class Trainer {
 public:
  // Makes the method of these slots (indices into the constructor's, rising; idle ones repeat the last), attached to
  // the base. The same slot gets the same initial values whatever the others are.
  using MethodFactory = std::function<std::unique_ptr<methods::Method>(const std::vector<size_t>& slots)>;

  // Each slot has passes of its own, until they are grouped.
  Trainer(base::BaseModel& base, MethodFactory make, std::vector<TrainSlot> slots);
  // One group with a method that is the caller's and outlives the trainer; slots cannot leave one by one.
  Trainer(base::BaseModel& base, methods::Method& method, std::vector<TrainSlot> slots);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // Draws `accumulation` batches with noise and timesteps for every slot that is still in, predicts, and takes one
  // optimiser step each. By slot. A slot that fails is still in: whoever drives the trainer lets it leave.
  std::vector<SlotStep> Step();

  int64_t steps(size_t slot = 0) const { return slots_.at(slot)->steps(); }

  // The same for the slots that go through the base with this one. By slot; of the others, kLeft. After an exception in
  // the pass no slot has taken the step, and another call, in this group or others, takes it from the same rows.
  std::vector<SlotStep> StepWith(size_t slot);
  // The same for one slot whose group is its own.
  SlotStep StepOf(size_t slot);

  // From now on all slots that are in go through the base in these groups, each in a pass that is at least `width`
  // slots wide, also when some leave. A group that stays as it is keeps its method; the others' are made anew around
  // their values.
  // Throws with WhyNotOneForward's sentence where slots do not fit each other, and nothing is changed then; or what
  // the factory throws, and then the slots of that group, and of those after it, have one each, or none where that
  // throws too.
  struct PassGroup {
    std::vector<size_t> slots;  // rising
    int64_t width = 0;
    bool operator==(const PassGroup&) const = default;
  };
  void Regroup(const std::vector<PassGroup>& groups);

  // Of two slots that are in: WhyNotOneForward.
  std::string WhyApart(size_t a, size_t b) const {
    return WhyNotOneForward(slots_.at(a)->given(), slots_.at(b)->given());
  }

  // While one lives, passes whose rows are the same (latents with noise, timesteps, condition) share what the base
  // makes of them before the first place that a method changes (nn/shared_prefix.h): the second pass takes it from the
  // first. It is the same computation, so no bit depends on it. For slots of groups of their own, with one batch to a
  // step.
  class Together {
   public:
    explicit Together(Trainer& trainer);
    ~Together();
    Together(const Together&) = delete;
    Together& operator=(const Together&) = delete;

   private:
    Trainer& trainer_;
  };

  // Takes one more slot into the pack, with passes of its own; returns its number. Throws what the factory
  // throws, and nothing is changed then.
  size_t Join(TrainSlot slot);

  // Takes the slot out of its pack: the method of those that stay is made anew around their values, moments, averages
  // and streams, which do not change by a bit. Its own state stays as it is: it may be saved still.
  void Leave(size_t slot);
  // The same, and its state is gone. Also of a slot that Regroup left without a group.
  void Release(size_t slot);

  // Runs `use` with the slot's method alone on the base: sampling, validation, export.
  void WithSlotAlone(size_t slot, const std::function<void(methods::Method&)>& use);

  // The same with these slots' in a pass of that width; slots of a group that is this one keep their method.
  void WithSlotsTogether(const PassGroup& pass, const std::function<void(methods::Method&)>& use);

  // Runs `use` with no method on the base.
  void WithBaseAlone(const std::function<void()>& use);

  // Of the trained values (and their average): which are not finite, as "name: …"; empty when all are. Waits for the
  // device.
  std::string DescribeNotFinite(size_t slot = 0) const { return slots_.at(slot)->DescribeNotFinite(); }

  // Exchanges the trained values and their running average; nothing without one. Call it twice to go on training.
  void SwapAverage(size_t slot = 0) { slots_.at(slot)->SwapAverage(); }

  // Writes everything that the slot's steps depend on, in a form that does not know of packs: what was saved in one
  // goes on alone, and the other way round. Throws std::runtime_error with WriteCheckpoint's message.
  void SaveCheckpoint(const std::string& path, const std::string& fingerprint, size_t slot = 0) const;
  // Whether an exception left the slot in the middle of a step: there is nothing to save then.
  bool MidStep(size_t slot) const { return slots_.at(slot)->mid_step(); }
  // Goes on from a checkpoint. False, and nothing is changed, where there is none of this run (said in the log when
  // there is another one, or a damaged one).
  bool LoadCheckpoint(const std::string& path, const std::string& fingerprint, size_t slot = 0);

 private:
  // Slots that go through the base together.
  struct Group {
    PassGroup pass;
    methods::Method* method = nullptr;
    std::unique_ptr<methods::Method> owned;   // null when it is the caller's
    std::unique_ptr<ranks::GradientSum> sum;  // of a slot with ranks, which has a group of its own
    // Its steps on a device that has a recorder.
    std::unique_ptr<runtime::RecordedCall> step = nullptr;
    std::unique_ptr<methods::KeptMasks> masks = nullptr;

    bool Has(size_t slot) const { return std::find(pass.slots.begin(), pass.slots.end(), slot) != pass.slots.end(); }
  };

  // With the idle ones.
  static std::vector<size_t> MembersOf(const PassGroup& pass);
  // A group of slots that are in, with a method of its own; none may be attached.
  Group MadeGroup(const PassGroup& pass);
  // Attaches this group's method alone; nullptr: none.
  void Enable(const Group* only);
  // As between calls: the only method there is, or none of several.
  void Rest() { Enable(groups_.size() == 1 ? groups_.data() : nullptr); }
  Group& GroupOf(size_t slot);
  // At a scope's end, whatever was thrown, the methods are as between calls.
  struct AtRest {
    Trainer& trainer;
    ~AtRest() { trainer.Rest(); }
  };

  // What passes of one step have in common.
  struct SharedPass;
  // The first of the step with these rows, or a new one.
  SharedPass& SharedPassOf(const TrainOptions& options, const TrainedSlot::Drawn& rows);

  // Rows of a step, by batch and slot of the method.
  using StepRows = std::vector<std::vector<const TrainedSlot::Drawn*>>;
  StepRows Draw(const Group& group);
  void StepGroup(Group& group, std::vector<SlotStep>& results);
  // Forward and backward passes of all batches. By slot, in two rows: the loss, and the error beside that of predicting
  // 0; float64, on the device (of ranks on the CPU).
  torch::Tensor Passes(Group& group, const StepRows& rows);
  torch::Tensor TotalsOf(const Group& group, const std::vector<std::vector<TrainedSlot::Losses>>& batches,
                         const runtime::RowShare& rows) const;
  // Whether its steps are recorded.
  bool Records(Group& group) const;
  // A whole step as one function of its rows: beside Passes' two rows, overflow and gradients' norm, by slot.
  torch::Tensor WholeStep(Group& group, const StepRows& rows);
  // Which of them are the same, for slots that share a pass.
  static std::optional<nn::RowsThatRepeat::Blocks> SameRows(const std::vector<const TrainedSlot::Drawn*>& drawn);
  // For the rows of one after another.
  torch::Tensor Predict(const TrainOptions& options, const std::vector<const TrainedSlot::Drawn*>& drawn,
                        const std::optional<nn::RowsThatRepeat::Blocks>& same = std::nullopt,
                        SharedPass* shared = nullptr);
  // Why the loss of this batch is not finite; empty when training made it so. Costs forward passes, of a step that is
  // lost anyway.
  std::string CauseOf(size_t slot, const TrainedSlot::Drawn& drawn);

  base::BaseModel& base_;
  const MethodFactory make_;
  std::vector<std::unique_ptr<TrainedSlot>> slots_;
  std::vector<Group> groups_;
  // Nothing where passes share nothing.
  std::optional<std::vector<std::unique_ptr<SharedPass>>> shared_;
};

}  // namespace loupe::worker::train
