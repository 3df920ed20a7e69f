// Our own operators, shown to whoever watches LibTorch's (worker/bench, LibTorch's profiler).
#pragma once

#include <ATen/record_function.h>
#include <torch/types.h>

#include <initializer_list>
#include <utility>
#include <vector>

namespace loupe::worker::nn {

// compute(), as an operator of that name with these arguments (which may be undefined) and the result.
template <typename Compute>
torch::Tensor Recorded(const char* name, std::initializer_list<torch::Tensor> arguments, const Compute& compute) {
  at::RecordFunction guard(at::RecordScope::FUNCTION);
  if (!guard.isActive()) return compute();
  const std::vector<c10::IValue> values(arguments.begin(), arguments.end());
  guard.before(name, c10::ArrayRef<const c10::IValue>(values.data(), values.size()));
  torch::Tensor result = compute();
  if (guard.needsOutputs()) guard.setOutputs(std::vector<c10::IValue>{result});
  return result;
}

}  // namespace loupe::worker::nn
