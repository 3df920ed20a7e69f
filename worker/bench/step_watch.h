// Where a step's time goes: LibTorch tells of every operator (at::RecordFunction), and each is put down to the module
// that called it.
//
// An outermost operator belongs to the layer whose weights are among its arguments, or to the marked region of the
// program that it lies in (RECORD_USER_SCOPE("loupe.…")), or to what its own name says; a node of the backward pass to
// whatever made it in the forward pass, by autograd's sequence number. What lies within an operator is its own: times
// are inclusive, and none is counted twice.
#pragma once

#include <ATen/record_function.h>
#include <torch/types.h>

#include <array>
#include <map>
#include <mutex>
#include <vector>

#include "worker/bench/module_kind.h"

namespace loupe::worker::bench {

// Seconds by which steps are measured. Of the CPU with one thread: of processor time, so that what other programs take
// of the core is left out. Else elapsed, and on a GPU after everything that it was told to do.
class StepClock {
 public:
  explicit StepClock(torch::Device device);
  double Now() const;
  bool processor_time() const { return processor_time_; }

 private:
  torch::Device device_;
  bool processor_time_;
};

struct PassWork {
  double seconds = 0, flops = 0, bytes = 0;
};
struct KindWork {
  PassWork forward, backward;
};
using StepWork = std::array<KindWork, kModuleKinds>;

// Counting what operators compute and move takes time itself, and comes out the same in every step: so one step is
// counted, and others are timed.
enum class Watched { kTimes, kTimesAndWork };

// Watches this process's operators from construction to destruction, one watch at a time. Both must outlive it.
class StepWatch {
 public:
  StepWatch(const WeightKinds& weights, const StepClock& clock, Watched watched);
  ~StepWatch();
  StepWatch(const StepWatch&) = delete;
  StepWatch& operator=(const StepWatch&) = delete;

  // So far, with nothing under kOther.
  const StepWork& work() const { return work_; }

 private:
  struct Frame;
  // This thread's, the outermost first.
  static std::vector<Frame>& Frames();

  static std::unique_ptr<at::ObserverContext> OnStart(const at::RecordFunction& op);
  static void OnEnd(const at::RecordFunction& op, at::ObserverContext* context);
  void Start(const at::RecordFunction& op);
  void End(const at::RecordFunction& op);
  ModuleKind KindOf(const at::RecordFunction& op);

  const WeightKinds& weights_;
  const StepClock& clock_;
  const Watched watched_;
  at::CallbackHandle handle_;
  std::mutex mutex_;  // a GPU's backward pass has a thread of its own
  StepWork work_;
  std::map<int64_t, ModuleKind> made_by_;  // the first sequence number of an operator, and of what came after it
};

}  // namespace loupe::worker::bench
