#include "worker/evaluate/layer_diversity.h"

#include <torch/utils.h>

namespace loupe::worker::evaluate {

void LayerDiversity::Add(const std::vector<torch::Tensor>& layers) {
  torch::NoGradGuard no_grad;
  if (sums_.empty()) {
    sums_.resize(layers.size());
    squares_.resize(layers.size(), 0.0);
  }
  TORCH_CHECK(layers.size() == sums_.size() && !layers.empty(),
              "layer diversity: another number of layers than before");
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto features = layers[i].to(torch::kCPU, torch::kFloat64);
    // A place where nothing is seen stays zero.
    const auto lengths = features.norm(2, {2}, /*keepdim=*/true);
    const auto unit = torch::where(lengths > 0, features / lengths, torch::zeros({}, features.options()));
    const auto sum = unit.sum(0);
    sums_[i] = sums_[i].defined() ? sums_[i] + sum : sum;
    squares_[i] += unit.square().sum().item<double>();
  }
  pictures_ += layers.front().size(0);
}

double LayerDiversity::Value() const {
  TORCH_CHECK(pictures_ >= 2, "layer diversity needs two pictures, not ", pictures_);
  const auto n = static_cast<double>(pictures_);
  double total = 0;
  for (size_t i = 0; i < sums_.size(); ++i) {
    const double pairs = 2 * (n * squares_[i] - sums_[i].square().sum().item<double>());
    total += std::max(0.0, pairs) / static_cast<double>(sums_[i].size(0));
  }
  return total / (n * (n - 1) * static_cast<double>(sums_.size()));
}

}  // namespace loupe::worker::evaluate
