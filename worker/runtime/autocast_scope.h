// Mixed precision: inside a scope, matrix products and convolutions run in a 16-bit type and what needs the range
// (norms, softmax, losses) in float32, as torch.autocast has it; weights stay float32.
#pragma once

#include <torch/types.h>

namespace loupe::worker::runtime {

struct AutocastState {
  torch::DeviceType device = torch::kCPU;
  bool enabled = false;
  torch::ScalarType type = torch::kBFloat16;

  // This thread's.
  static AutocastState Now(torch::DeviceType device);
};

// Sets this thread's state for `state.device`, and puts back what was before. Scopes nest.
class AutocastScope {
 public:
  explicit AutocastScope(const AutocastState& state);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  const AutocastState before_;
};

}  // namespace loupe::worker::runtime
