// Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): a block keeps its inputs only, and is computed a second
// time when the gradients come back. Memory for activations falls to about one block's; a training step costs one more
// forward.
#pragma once

#include <torch/types.h>

#include <functional>

namespace loupe::worker::runtime {

// While one with `on` lives, Recomputed recomputes, on this thread.
class RecomputeScope {
 public:
  explicit RecomputeScope(bool on);
  ~RecomputeScope();
  RecomputeScope(const RecomputeScope&) = delete;
  RecomputeScope& operator=(const RecomputeScope&) = delete;

 private:
  const bool before_;
};

using BlockFunction = std::function<torch::Tensor(const torch::Tensor& x, const torch::Tensor& condition)>;

// block(x, condition). Inside a RecomputeScope and with gradients on, nothing of it is kept but the two inputs; in the
// backward pass it runs again under the autocast state of now, and the gradients of parameters that it uses are added
// to them directly. It must give the same result again, and must not be differentiated twice.
torch::Tensor Recomputed(const BlockFunction& block, const torch::Tensor& x, const torch::Tensor& condition);

}  // namespace loupe::worker::runtime
