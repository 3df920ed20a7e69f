// What a pass through a base need not compute for each of its rows: everything before the first place where a method
// changes something is the same for rows that are the same.
//
// Blocks name the parts of their forward (SharedOr). A part is shared where all that it reads is (or is an input of the
// pass) and no method has a hook in it. What a method gives back is a tensor that nobody shares, so that all that
// depends on it is computed as ever. Shared are tensors without gradients: a frozen base's on inputs that need none.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace loupe::worker::nn {

// Not thread-safe; valid while neither the base's weights nor the precision change.
class SharedPrefix {
 public:
  using Tensors = std::vector<torch::Tensor>;
  using Compute = std::function<torch::Tensor(const Tensors& reads)>;

  SharedPrefix() = default;
  SharedPrefix(const SharedPrefix&) = delete;
  SharedPrefix& operator=(const SharedPrefix&) = delete;
  virtual ~SharedPrefix() = default;

  // What `compute` gives for `reads`, all tensors of the pass that it computes from (undefined ones count for nothing);
  // `part` names it within a pass.
  virtual torch::Tensor Get(const void* part, const Tensors& reads, const Compute& compute) = 0;

  // How many parts were not computed, or for fewer rows.
  int64_t shared() const { return shared_; }

 protected:
  int64_t shared_ = 0;
};

// Several passes with the same rows, one after another: the first keeps what it has computed, the others take it. It is
// the same computation, so no bit of any of them depends on who else passes.
class PassesWithTheSameRows : public SharedPrefix {
 public:
  // An input that all passes have in common: each is given this very tensor.
  void Begin(const torch::Tensor& input) { Hold(input); }
  torch::Tensor Get(const void* part, const Tensors& reads, const Compute& compute) override;

 private:
  void Hold(const torch::Tensor& x);

  std::unordered_map<const void*, torch::Tensor> parts_;
  std::unordered_set<const c10::TensorImpl*> held_;
  Tensors alive_;  // an address is one tensor's for as long as it lives
};

// One pass of blocks of as many rows each, some of which are the same: a pack's trials at one step, the two halves of
// guidance. A part is computed for the different ones and its result put wherever their rows are.
//
// How many rows an operator has may have a say in its bytes. Which blocks go through a part in one call is therefore
// the caller's to say: what a block gives depends on the blocks of its call, and on no others.
class RowsThatRepeat : public SharedPrefix {
 public:
  struct Blocks {
    std::vector<std::vector<int64_t>> calls;  // the blocks that are computed, by call
    std::vector<int64_t> same_as;             // by block of the pass: which of those has its rows
  };
  // Of `count` blocks, by which two are the same; each that differs has a call of its own, so that what it gives does
  // not depend on what the others are.
  static Blocks BlocksOf(size_t count, const std::function<bool(size_t, size_t)>& same);
  // Those with the same inputs are the same, compared in the inputs' order: waits for the device.
  static Blocks BlocksOf(const std::vector<Tensors>& inputs);
  explicit RowsThatRepeat(Blocks blocks);

  // An input of the pass, of all its blocks; or of one row that counts for all.
  void Begin(const torch::Tensor& input);
  torch::Tensor Get(const void* part, const Tensors& reads, const Compute& compute) override;

 private:
  struct Place {
    size_t call;
    int64_t position;
  };
  struct Held {
    torch::Tensor whole;  // as the pass sees it
    Tensors by_call;      // one, of one row, where that counts for all
    bool one_for_all = false;
  };
  torch::Tensor Whole(const Tensors& by_call) const;
  void Hold(Held held);

  const Blocks blocks_;
  std::vector<Place> places_;  // by block of the pass
  std::unordered_map<const c10::TensorImpl*, Held> held_;
};

// While one with a prefix lives, this thread's passes use it.
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

// compute(reads...), shared where it can be. `untouched`: no method has a hook in what it computes with; all tensors of
// the pass that it computes from are among `reads`, and `compute` uses those that it is given.
template <typename Compute, typename... Reads>
torch::Tensor SharedOr(const void* part, bool untouched, const Compute& compute, const Reads&... reads) {
  SharedPrefix* const prefix = SharedPrefixScope::Now();
  if (prefix == nullptr || !untouched) return compute(reads...);
  return prefix->Get(part, {reads...}, [&](const SharedPrefix::Tensors& rows) {
    return [&]<size_t... I>(std::index_sequence<I...>) { return compute(rows[I]...); }
    (std::index_sequence_for<Reads...>());
  });
}

}  // namespace loupe::worker::nn
