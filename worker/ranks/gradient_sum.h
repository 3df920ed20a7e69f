// The gradients of a trial's parameters, added up over its ranks.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/ranks/rank_group.h"

namespace loupe::worker::ranks {

// One per trial and rank, called on all ranks alike. After Finish, each parameter's gradient is the sum of all ranks',
// the same bits on every rank.
class GradientSum {
 public:
  virtual ~GradientSum() = default;

  // Before a step's last backward pass, which starts from `loss`.
  virtual void Begin(const torch::Tensor& loss) = 0;
  // After it.
  virtual void Finish() = 0;
};

struct GradientSumOptions {
  // Up to so many bytes go as one array after the backward pass: what could be hidden is less than what buckets cost.
  // All adapters are smaller.
  int64_t flat_bytes = int64_t{4} << 20;
  // Beyond that, in buckets of about so many, while the backward pass goes on.
  int64_t bucket_bytes = int64_t{4} << 20;
};

// Parameters: leaves that require gradients, on the group's device, the same on all ranks. They and the group must
// outlive it.
std::unique_ptr<GradientSum> MakeGradientSum(RankGroup& group, std::vector<torch::Tensor> parameters,
                                             const GradientSumOptions& options = {});

}  // namespace loupe::worker::ranks
