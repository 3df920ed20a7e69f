#include "worker/bench/step_watch.h"

#include <ATen/Parallel.h>
#include <ATen/SequenceNumber.h>
#include <torch/cuda.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "common/process_use.h"
#include "worker/bench/operator_work.h"

namespace loupe::worker::bench {
namespace {

StepWatch* watch_now = nullptr;

// The engine's own frame around each node, and what it adds up there for the next one.
bool IsEngine(std::string_view name) { return name.starts_with("autograd::engine::"); }

}  // namespace

StepClock::StepClock(torch::Device device)
    : device_(device), processor_time_(device.is_cpu() && at::get_num_threads() == 1) {}

double StepClock::Now() const {
  if (processor_time_) return ProcessCpuSeconds();
  if (device_.is_cuda()) torch::cuda::synchronize(device_.index());
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct StepWatch::Frame {
  bool engine = false;    // looked through
  bool backward = false;  // in a node of the backward pass
  bool op = false;        // an operator, or within one
  bool outermost = false;
  bool counts_bytes = false;
  bool counts_flops = false;
  bool counted = false;  // its arithmetic is, or that of what it lies in
  ModuleKind kind = ModuleKind::kOther;
  double start = 0;
  int64_t first_made = 0;
  std::optional<OperatorWork> work;
};

std::vector<StepWatch::Frame>& StepWatch::Frames() {
  thread_local std::vector<Frame> frames;
  return frames;
}

StepWatch::StepWatch(const WeightKinds& weights, const StepClock& clock, Watched watched)
    : weights_(weights), clock_(clock), watched_(watched) {
  TORCH_CHECK(watch_now == nullptr, "steps are watched one at a time");
  watch_now = this;
  handle_ = at::addGlobalCallback(
      at::RecordFunctionCallback(&StepWatch::OnStart, &StepWatch::OnEnd)
          .needsInputs(true)
          .needsOutputs(true)
          .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE}));
}

StepWatch::~StepWatch() {
  at::removeCallback(handle_);
  watch_now = nullptr;
}

std::unique_ptr<at::ObserverContext> StepWatch::OnStart(const at::RecordFunction& op) {
  watch_now->Start(op);
  return nullptr;
}

void StepWatch::OnEnd(const at::RecordFunction& op, at::ObserverContext* /*context*/) { watch_now->End(op); }

ModuleKind StepWatch::KindOf(const at::RecordFunction& op) {
  const std::string_view name = op.name();
  if (op.scope() == at::RecordScope::USER_SCOPE) return KindOfRegion(name).value_or(ModuleKind::kElementwise);
  if (op.scope() == at::RecordScope::BACKWARD_FUNCTION) {
    if (name.find("AccumulateGrad") != std::string_view::npos) return ModuleKind::kMethod;
    const std::lock_guard lock(mutex_);
    const auto after = made_by_.upper_bound(op.seqNr());
    return op.seqNr() < 0 || after == made_by_.begin() ? ModuleKind::kElementwise : std::prev(after)->second;
  }
  std::optional<ModuleKind> kind;
  ForTensors(op.inputs(), [&](const torch::Tensor& tensor) {
    if (!kind.has_value()) kind = weights_.Find(tensor);
  });
  if (!kind.has_value()) kind = KindOfOperator(name);
  return kind.value_or(ModuleKind::kElementwise);
}

void StepWatch::Start(const at::RecordFunction& op) {
  std::vector<Frame>& frames = Frames();
  Frame frame;
  // What it lies in, looking through the engine's frames.
  const bool inside = !frames.empty() && !frames.back().engine;
  if (!frames.empty()) frame.backward = frames.back().backward;
  if (inside) {
    frame.kind = frames.back().kind;
    frame.op = frames.back().op;
    frame.counted = frames.back().counted;
  }
  const at::RecordScope scope = op.scope();
  frame.engine = !inside && IsEngine(op.name());
  frame.backward = frame.backward || frame.engine || scope == at::RecordScope::BACKWARD_FUNCTION;
  frame.outermost = !inside && !frame.engine;
  if (frame.outermost) frame.kind = KindOf(op);
  if (watched_ == Watched::kTimesAndWork && scope == at::RecordScope::FUNCTION && !frame.engine) {
    frame.counts_bytes = !frame.op;
    frame.op = true;
    if (frame.counts_bytes || !frame.counted) frame.work.emplace(op, frame.counts_bytes);
    frame.counts_flops = !frame.counted && frame.work->counted();
    frame.counted = frame.counted || frame.counts_flops;
  }
  frame.first_made = static_cast<int64_t>(at::sequence_number::peek());
  frames.push_back(std::move(frame));
  // The last thing before the operator, so that little of the watch is in its time.
  if (frames.back().outermost) frames.back().start = clock_.Now();
}

void StepWatch::End(const at::RecordFunction& op) {
  std::vector<Frame>& frames = Frames();
  if (frames.empty()) return;  // begun before the watch
  const double now = frames.back().outermost ? clock_.Now() : 0;
  const Frame frame = std::move(frames.back());
  frames.pop_back();
  if (frame.engine) return;
  const std::lock_guard lock(mutex_);
  KindWork& kind = work_.at(static_cast<size_t>(frame.kind));
  PassWork& pass = frame.backward ? kind.backward : kind.forward;
  if (frame.counts_flops) pass.flops += frame.work->Flops(op);
  if (frame.counts_bytes) pass.bytes += frame.work->Bytes(op);
  if (!frame.outermost) return;
  pass.seconds += now - frame.start;
  if (static_cast<int64_t>(at::sequence_number::peek()) > frame.first_made) made_by_[frame.first_made] = frame.kind;
}

}  // namespace loupe::worker::bench
