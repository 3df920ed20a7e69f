#include "tests/testing/tape_recorder.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>
#include <torch/types.h>

#include <string>
#include <utility>
#include <vector>

namespace loupe::testing {
namespace {

using Stack = torch::jit::Stack;

// Below autograd and autocast, which are the code around the operators, and above those of the device.
constexpr c10::DispatchKey kKey = c10::DispatchKey::Fake;

struct Entry {
  c10::OperatorHandle op;
  Stack arguments, results;
};
using Tape = std::vector<Entry>;
thread_local Tape* current = nullptr;

void RecordOperator(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const auto arguments = static_cast<std::ptrdiff_t>(op.schema().arguments().size());
  TORCH_CHECK(op.schema().name() != "aten::_local_scalar_dense", "a value is read back while work is recorded");
  Entry entry{op, Stack(stack->end() - arguments, stack->end()), {}};
  const c10::impl::ExcludeDispatchKeyGuard outside(kKey);
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kKey), stack);
  const auto results = static_cast<std::ptrdiff_t>(op.schema().returns().size());
  entry.results.assign(stack->end() - results, stack->end());
  current->push_back(std::move(entry));
}

// The recorded tensor gets what was computed now, unless it is that (written in place, or a view).
void Give(const torch::Tensor& recorded, const torch::Tensor& now) {
  if (!recorded.defined() || recorded.numel() == 0 || recorded.data_ptr() == now.data_ptr()) return;
  recorded.copy_(now);
}

class TapeRecording : public worker::runtime::Recording {
 public:
  TapeRecording(Tape tape, std::shared_ptr<int64_t> replays) : tape_(std::move(tape)), replays_(std::move(replays)) {}

  void Replay() override {
    ++*replays_;
    const at::AutoDispatchBelowADInplaceOrView below;
    for (const Entry& entry : tape_) {
      Stack stack = entry.arguments;
      entry.op.callBoxed(&stack);
      for (size_t i = 0; i < entry.results.size(); ++i) {
        const c10::IValue &recorded = entry.results[i], &now = stack[i];
        if (recorded.isTensor()) Give(recorded.toTensor(), now.toTensor());
        if (!recorded.isTensorList()) continue;
        const std::vector<torch::Tensor> all = recorded.toTensorVector(), its = now.toTensorVector();
        for (size_t k = 0; k < all.size(); ++k) Give(all[k], its[k]);
      }
    }
  }

 private:
  const Tape tape_;
  const std::shared_ptr<int64_t> replays_;
};

}  // namespace

std::unique_ptr<worker::runtime::Recording> TapeRecorder::Record(const std::function<void()>& work) {
  Tape tape;
  {
    struct Current {
      ~Current() { current = nullptr; }
    } const reset;
    current = &tape;
    const c10::impl::IncludeDispatchKeyGuard recording(kKey);
    work();
  }
  ++recordings_;
  if (damages_) tape.pop_back();
  return std::make_unique<TapeRecording>(std::move(tape), replays_);
}

}  // namespace loupe::testing

TORCH_LIBRARY_IMPL(_, Fake, operators) {
  operators.fallback(torch::CppFunction::makeFromBoxedFunction<&loupe::testing::RecordOperator>());
}
