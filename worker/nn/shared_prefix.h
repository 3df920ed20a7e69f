// What several passes through a base compute alike: on the same rows, everything before the first place where a method
// changes something. The first pass keeps it, the others take it from there; since it is the same computation, no bit
// of any of them depends on who else passes.
//
// Blocks name the parts of their forward (SharedOr); a part is taken where all that it reads was kept (or is an input
// of the pass) and no method has a hook in it. What a method gives back is a tensor that nobody has kept, so that all
// that depends on it is computed as ever. Kept are tensors without gradients: a frozen base's on inputs that need none.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <initializer_list>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace loupe::worker::nn {

// One set of rows. Not thread-safe; valid while neither the base's weights nor the precision change.
class SharedPrefix {
 public:
  // An input that all passes have in common: each is given this very tensor.
  void Begin(const torch::Tensor& input) { Hold(input); }

  // How often a pass took what another had kept.
  int64_t taken() const { return taken_; }

  bool Holds(const torch::Tensor& x) const { return !x.defined() || held_.contains(x.unsafeGetTensorImpl()); }

  // What `compute` gives; `part` names it.
  template <typename Compute>
  torch::Tensor Get(const void* part, const Compute& compute) {
    if (const auto found = parts_.find(part); found != parts_.end()) {
      ++taken_;
      return found->second;
    }
    torch::Tensor made = compute();
    if (made.requires_grad()) return made;
    Hold(made);
    parts_.emplace(part, made);
    return made;
  }

 private:
  void Hold(const torch::Tensor& x) {
    alive_.push_back(x);
    held_.insert(x.unsafeGetTensorImpl());
  }

  int64_t taken_ = 0;
  std::unordered_map<const void*, torch::Tensor> parts_;
  std::unordered_set<const c10::TensorImpl*> held_;
  std::vector<torch::Tensor> alive_;  // an address is one tensor's for as long as it lives
};

// While one with a prefix lives, the passes of this thread share it.
class SharedPrefixScope {
 public:
  // May be null: nothing is shared.
  explicit SharedPrefixScope(SharedPrefix* prefix) : before_(std::exchange(Current(), prefix)) {}
  ~SharedPrefixScope() { Current() = before_; }
  SharedPrefixScope(const SharedPrefixScope&) = delete;
  SharedPrefixScope& operator=(const SharedPrefixScope&) = delete;

  static SharedPrefix* Now() { return Current(); }

 private:
  static SharedPrefix*& Current() {
    thread_local SharedPrefix* current = nullptr;
    return current;
  }

  SharedPrefix* const before_;
};

// compute(), or what an earlier pass kept of it. `untouched`: no method has a hook in what it computes with; `reads`:
// all tensors of the pass that it computes from.
template <typename Compute>
torch::Tensor SharedOr(const void* part, bool untouched, std::initializer_list<torch::Tensor> reads,
                       const Compute& compute) {
  SharedPrefix* const prefix = SharedPrefixScope::Now();
  if (prefix == nullptr || !untouched) return compute();
  for (const torch::Tensor& read : reads) {
    if (!prefix->Holds(read)) return compute();
  }
  return prefix->Get(part, compute);
}

}  // namespace loupe::worker::nn
