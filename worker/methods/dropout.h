// Dropout whose masks are functions of names alone: a recomputed block, a resumed run and a pack get the same ones.
#pragma once

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "worker/runtime/row_share.h"

namespace loupe::worker::methods {

// SplitMix64's finaliser (Steele et al. 2014): neighbouring inputs give unrelated outputs.
inline uint64_t Mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// 0 with probability p, else 1/(1 − p). Drawn on the CPU, so that devices agree. `layer` names the place within the
// method, `draw` the pass. `like`'s first dimension is over the rows that `rows` says, or over several entries for
// each.
torch::Tensor DropoutMask(const torch::Tensor& like, double p, uint64_t seed, size_t layer, int64_t draw,
                          const runtime::RowShare& rows = {});

// The masks of a step that is repeated from a recording (runtime/recorded_call.h), which reads them where they are:
// drawn when they are asked for first, and then before each step. Not thread-safe; one step at a time.
class KeptMasks {
 public:
  // Of the step that comes: `draws[b][k]` is batch b's and slot k's.
  void Prepare(std::vector<std::vector<int64_t>> draws);
  // The passes that come are this batch's.
  void BeginBatch(size_t batch) { batch_ = batch; }
  // DropoutMask of this batch and slot.
  torch::Tensor Get(const torch::Tensor& like, double p, uint64_t seed, size_t layer, size_t slot,
                    const runtime::RowShare& rows);

 private:
  struct Kept {
    size_t batch, slot, layer;
    double p;
    uint64_t seed;
    runtime::RowShare rows;
    torch::Tensor mask;
  };

  std::vector<std::vector<int64_t>> draws_;
  size_t batch_ = 0;
  std::vector<Kept> kept_;
};

// What every hook of a method must know of the pass that it is in (Method::BeginTraining).
struct PassState {
  bool training = false;
  std::vector<int64_t> draws;  // per slot of the pack
  runtime::RowShare rows;      // which of each slot's rows the pass is of
  KeptMasks* kept = nullptr;   // where masks come from, if they are kept

  // DropoutMask of this slot's.
  torch::Tensor Mask(const torch::Tensor& like, double p, uint64_t seed, size_t layer, int64_t slot) const {
    const auto at = static_cast<size_t>(slot);
    return kept != nullptr ? kept->Get(like, p, seed, layer, at, rows)
                           : DropoutMask(like, p, seed, layer, draws[at], rows);
  }
};

}  // namespace loupe::worker::methods
