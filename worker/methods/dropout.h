// Dropout whose masks are functions of names alone: a recomputed block, a resumed run and a pack get the same ones.
#pragma once

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "worker/runtime/row_share.h"

namespace loupe::worker::methods {

// What every hook of a method must know of the pass that it is in (Method::BeginTraining).
struct PassState {
  bool training = false;
  std::vector<int64_t> draws;  // per slot of the pack
  runtime::RowShare rows;      // which of each slot's rows the pass is of
};

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

}  // namespace loupe::worker::methods
