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
    if (!values.empty()) weight_ = torch::zeros({}, values.front().detach().options());
  }

  // Beside the values, or empty.
  const std::vector<torch::Tensor>& averages() const { return averages_; }

  // Update takes the values in as the t-th. Its work may be recorded, as Optimizer's.
  void Prepare(double decay, int64_t t) {
    if (averages_.empty()) return;
    const auto seen = static_cast<double>(t);
    weight_.fill_(1 - std::min(decay, (1 + seen) / (10 + seen)));
  }
  void Update(const std::vector<torch::Tensor>& values, const torch::Tensor& skip) {
    if (averages_.empty()) return;
    torch::NoGradGuard no_grad;
    const torch::Tensor weight = skip.defined() ? weight_ * (1 - skip) : weight_;
    for (size_t i = 0; i < averages_.size(); ++i) averages_[i].lerp_(values[i], weight);
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
  torch::Tensor weight_;  // 1 − d of the update that is prepared
};

}  // namespace loupe::worker::train
