// The order in which a data set's items are seen: a new permutation for each pass, no item twice before all were seen.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "worker/runtime/random_stream.h"

namespace loupe::worker::tasks {

// Batch::origin of these items of data that is shared, in one place, by all who may ask; `flags`: what was decided by
// chance for each, bool, on the CPU.
std::string OriginOf(const void* data, const std::vector<int64_t>& items, const std::vector<torch::Tensor>& flags);

// Not thread-safe. Two with the same seed and size give the same order.
class EpochOrder {
 public:
  // `size` ≥ 1.
  EpochOrder(int64_t size, runtime::RandomStream stream) : size_(size), stream_(std::move(stream)) {}

  // The next `count` items' indices; a batch may run over the end of a pass.
  std::vector<int64_t> Next(int64_t count);

  // What a resumed run needs: generator, the rest of the pass.
  struct State {
    torch::Tensor generator;  // uint8
    torch::Tensor rest;       // int64, what is left of this pass, next one first
  };
  State Save() const;
  void Restore(const State& state);

 private:
  int64_t size_;
  runtime::RandomStream stream_;
  std::vector<int64_t> rest_;  // next one last
};

}  // namespace loupe::worker::tasks
