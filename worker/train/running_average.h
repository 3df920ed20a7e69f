// The running average of trained values (EMA), which trials and pretraining sample and score with.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace loupe::worker::train {

// a ← d·a + (1 − d)·v with d = min(decay, (1 + t)/(10 + t)): early values, of small t, count little. Not thread-safe.
class RunningAverage {
 public:
  // None: nothing is averaged.
  RunningAverage() = default;
  // Begins as a copy of the values.
  explicit RunningAverage(const std::vector<torch::Tensor>& values) {
    for (const torch::Tensor& value : values) averages_.push_back(value.detach().clone());
  }

  // Beside the values, or empty.
  const std::vector<torch::Tensor>& averages() const { return averages_; }

  void Update(const std::vector<torch::Tensor>& values, double decay, int64_t t) {
    if (averages_.empty()) return;
    torch::NoGradGuard no_grad;
    const auto seen = static_cast<double>(t);
    at::_foreach_lerp_(averages_, values, 1 - std::min(decay, (1 + seen) / (10 + seen)));
  }

  // Values and averages change places; twice is as before.
  void Swap(const std::vector<torch::Tensor>& values) {
    torch::NoGradGuard no_grad;
    for (size_t i = 0; i < averages_.size(); ++i) {
      const torch::Tensor& value = values[i];
      const torch::Tensor kept = value.detach().clone();
      value.copy_(averages_[i]);
      averages_[i].copy_(kept);
    }
  }

 private:
  std::vector<torch::Tensor> averages_;
};

}  // namespace loupe::worker::train
