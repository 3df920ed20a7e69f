// The random streams of a trial: each its own CPU generator, seeded from sweep and replicate but not from the cell,
// whose states can be saved.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <cstdint>

namespace loupe::worker::runtime {

// Draws on the CPU whatever the device, so that results can be compared between devices, and with Python:
// torch.Generator().manual_seed(seed) gives the same numbers. Not thread-safe.
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed) : generator_(at::detail::createCPUGenerator(seed)) {}

  at::Generator& generator() { return generator_; }

  torch::Tensor Normal(at::IntArrayRef shape) { return torch::randn(shape, generator_, torch::kFloat32); }
  // int64 in [0, end).
  torch::Tensor Integers(int64_t end, at::IntArrayRef shape) {
    return torch::randint(0, end, shape, generator_, torch::kInt64);
  }
  // float32 in [0, 1).
  torch::Tensor Uniform(at::IntArrayRef shape) { return torch::rand(shape, generator_, torch::kFloat32); }
  torch::Tensor Permutation(int64_t n) { return torch::randperm(n, generator_, torch::kInt64); }

  // uint8, as torch.Generator.get_state gives it.
  torch::Tensor State() const { return generator_.get_state(); }
  void SetState(const torch::Tensor& state) { generator_.set_state(state); }

 private:
  at::Generator generator_;
};

}  // namespace loupe::worker::runtime
