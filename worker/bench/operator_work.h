// What one of LibTorch's operators computes and moves, from its arguments. LibTorch's own counter (its profiler's
// with_flops) knows products and forward convolutions alone: neither backward convolutions, nor fused attention, nor
// transforms.
#pragma once

#include <ATen/record_function.h>
#include <c10/util/SmallVector.h>
#include <torch/types.h>

#include <functional>
#include <vector>

namespace loupe::worker::bench {

// Every tensor among an operator's arguments or results, those of lists included.
void ForTensors(c10::ArrayRef<const c10::IValue> values, const std::function<void(const torch::Tensor&)>& look);

// Read at an operator's start, when its arguments are at hand, and completed at its end from its results.
class OperatorWork {
 public:
  // `bytes`: whether Bytes will be asked for.
  OperatorWork(const at::RecordFunction& op, bool bytes);

  // Whether its arithmetic is known here: matrix products, convolutions and fused attention, forward and backward, and
  // transforms (a real one of n numbers: 2.5 n log₂ n operations). Of others (norms, activations, sums) it counts as
  // none, as in common/network_flops.h.
  bool counted() const { return flops_ > 0 || per_result_ > 0; }
  // Floating-point operations; a multiply-add is two.
  double Flops(const at::RecordFunction& op) const;
  // Bytes of its arguments and results, each once; 0 of views and of memory that nothing was written to.
  double Bytes(const at::RecordFunction& op) const;

 private:
  double flops_ = 0, per_result_ = 0;  // known already, or by number of the first result
  double read_ = 0;
  c10::SmallVector<const void*, 8> storages_;  // of the arguments
};

}  // namespace loupe::worker::bench
