#include "worker/nn/ada_layer_norm.h"

#include <memory>

namespace loupe::worker::nn {
namespace {

constexpr int64_t kTimeSinusoids = 256;

// A level of the checkpoint's names: class_embedder.embedding_table.
class TableHolder : public torch::nn::Module {
 public:
  explicit TableHolder(const Embedding& table) { register_module("embedding_table", table); }
};

}  // namespace

TimestepClassEmbeddingImpl::TimestepClassEmbeddingImpl(int64_t classes, int64_t width, double freq_shift)
    : freq_shift_(freq_shift),
      timestep_embedder_(register_module("timestep_embedder", TimestepEmbedding(kTimeSinusoids, width))),
      class_embedder_(classes + 1, width) {
  register_module("class_embedder", std::make_shared<TableHolder>(class_embedder_));
}

torch::Tensor TimestepClassEmbeddingImpl::forward(const torch::Tensor& timesteps, const torch::Tensor& classes,
                                                  torch::ScalarType dtype) {
  const auto sinusoids = SinusoidalEmbedding(timesteps, kTimeSinusoids, /*flip_sin_to_cos=*/true, freq_shift_);
  return timestep_embedder_(sinusoids.to(dtype)) + class_embedder_(classes);
}

AdaModulationImpl::AdaModulationImpl(int64_t width, int64_t chunks)
    : chunks_(chunks), linear_(register_module("linear", Linear(width, chunks * width))) {}

std::vector<torch::Tensor> AdaModulationImpl::forward(const torch::Tensor& condition_silu) {
  return linear_(condition_silu).chunk(chunks_, 1);
}

}  // namespace loupe::worker::nn
