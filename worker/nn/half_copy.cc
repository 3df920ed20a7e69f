#include "worker/nn/half_copy.h"

#include <torch/csrc/autograd/functions/utils.h>

#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::nn {

torch::Tensor HalfCopy::Of(const torch::Tensor& value) {
  if (!value.defined() || value.scalar_type() != torch::kFloat32) return value;
  const runtime::AutocastState state = runtime::AutocastState::Now(value.device().type());
  if (!state.enabled || torch::autograd::compute_requires_grad(value)) return value;
  const int64_t version = value.is_inference() ? 0 : value._version();
  const std::lock_guard lock(mutex_);
  const bool current = made_.defined() && made_from_.is_same(value) && version_ == version &&
                       made_.scalar_type() == state.type && made_.device() == value.device();
  if (!current) {
    const torch::NoGradGuard no_grad;
    made_ = value.detach().to(state.type);
    made_from_ = value;
    version_ = version;
  }
  return made_;
}

}  // namespace loupe::worker::nn
