#include "worker/ranks/gradient_sum.h"

#include <torch/utils.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <utility>

#include "worker/ranks/reducer.h"

namespace loupe::worker::ranks {
namespace {

class FlatSum : public GradientSum {
 public:
  FlatSum(RankGroup& group, std::vector<torch::Tensor> parameters)
      : group_(group), parameters_(std::move(parameters)) {}

  void Begin(const torch::Tensor& /*loss*/) override {}

  void Finish() override {
    const torch::NoGradGuard no_grad;
    // Which parameters have a gradient does not depend on the rows, so that the ranks agree on it.
    std::vector<torch::Tensor> gradients, flat;
    for (const torch::Tensor& parameter : parameters_) {
      if (!parameter.grad().defined()) continue;
      gradients.push_back(parameter.grad());
      flat.push_back(parameter.grad().reshape({-1}));
    }
    if (gradients.empty()) return;
    std::vector<torch::Tensor> sum{torch::cat(flat)};
    group_.group()->getBackend(sum.front().device().type())->allreduce(sum)->wait();
    int64_t at = 0;
    for (torch::Tensor& gradient : gradients) {
      gradient.copy_(sum.front().narrow(0, at, gradient.numel()).view(gradient.sizes()));
      at += gradient.numel();
    }
  }

 private:
  RankGroup& group_;
  const std::vector<torch::Tensor> parameters_;
};

class BucketSum : public GradientSum {
 public:
  BucketSum(RankGroup& group, std::vector<torch::Tensor> parameters, int64_t bucket_bytes)
      : reducer_(group, std::move(parameters), bucket_bytes) {}

  void Begin(const torch::Tensor& loss) override { reducer_.PrepareForBackward(loss); }
  // The backward pass has waited for the last bucket.
  void Finish() override {}

 private:
  OverlappedReducer reducer_;
};

}  // namespace

std::unique_ptr<GradientSum> MakeGradientSum(RankGroup& group, std::vector<torch::Tensor> parameters,
                                             const GradientSumOptions& options) {
  int64_t bytes = 0;
  for (const torch::Tensor& parameter : parameters) bytes += static_cast<int64_t>(parameter.nbytes());
  if (bytes <= options.flat_bytes) return std::make_unique<FlatSum>(group, std::move(parameters));
  return std::make_unique<BucketSum>(group, std::move(parameters), options.bucket_bytes);
}

}  // namespace loupe::worker::ranks
