#include "worker/pretrain/step_draws.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <vector>

#include "common/seed.h"

namespace loupe::worker::pretrain {

at::Generator StepGenerator(uint64_t seed, int64_t step, const std::string& purpose) {
  return at::make_generator<at::CPUGeneratorImpl>(DeriveSeed(seed, step, "pretrain/" + purpose));
}

torch::Tensor BatchRows(uint64_t seed, const std::string& stage, int64_t step, int64_t batch, int64_t items) {
  std::vector<torch::Tensor> parts;
  int64_t at = step * batch, left = batch;
  while (left > 0) {
    auto random = StepGenerator(seed, at / items, stage + "/order");
    const auto order = torch::randperm(items, random, torch::kInt64);
    const int64_t begin = at % items, count = std::min(left, items - begin);
    parts.push_back(order.slice(0, begin, begin + count));
    at += count;
    left -= count;
  }
  return torch::cat(parts);
}

}  // namespace loupe::worker::pretrain
