// c10d's Reducer, whose constructor changes from version to version of LibTorch: the one place that knows it.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/ranks/rank_group.h"

namespace loupe::worker::ranks {

// Sums of gradients over the ranks, taken in buckets while the backward pass goes on: a bucket leaves as soon as its
// last gradient is there. (PyTorch Distributed, Li et al. 2020, arXiv 2006.15704, §3.2.) Buckets are filled in the
// reverse order of the parameters, which is about that of their gradients; all ranks have the same ones.
class OverlappedReducer {
 public:
  // Parameters: leaves that require gradients, dense, on the group's device; the same on every rank. They and the group
  // must outlive it.
  OverlappedReducer(RankGroup& group, std::vector<torch::Tensor> parameters, int64_t bucket_bytes);
  ~OverlappedReducer();
  OverlappedReducer(const OverlappedReducer&) = delete;
  OverlappedReducer& operator=(const OverlappedReducer&) = delete;

  // The next backward pass, from `loss`, adds up over the ranks what the parameters' gradients are at its end, and
  // returns when that has been done. Parameters that no rank's loss depends on keep what they have.
  void PrepareForBackward(const torch::Tensor& loss);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace loupe::worker::ranks
