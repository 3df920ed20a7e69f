#include "worker/runtime/autocast_scope.h"

#include <ATen/autocast_mode.h>

namespace loupe::worker::runtime {
namespace {

void SetAutocast(const AutocastState& state) {
  at::autocast::set_autocast_enabled(state.device, state.enabled);
  at::autocast::set_autocast_dtype(state.device, state.type);
}

}  // namespace

AutocastState AutocastState::Now(torch::DeviceType device) {
  return {device, at::autocast::is_autocast_enabled(device), at::autocast::get_autocast_dtype(device)};
}

AutocastScope::AutocastScope(const AutocastState& state) : before_(AutocastState::Now(state.device)) {
  at::autocast::increment_nesting();
  SetAutocast(state);
}

AutocastScope::~AutocastScope() {
  SetAutocast(before_);
  // Casts of weights are kept until the outermost scope ends.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
}

}  // namespace loupe::worker::runtime
