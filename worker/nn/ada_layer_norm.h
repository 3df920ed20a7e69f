// Adaptive layer norm (adaLN-Zero, Peebles & Xie 2022, arXiv 2212.09748 §3.2): how networks of blocks without
// cross-attention hear the time and the class. By diffusers' names.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <vector>

#include "worker/nn/leaf_layers.h"
#include "worker/nn/time_embedding.h"

namespace loupe::worker::nn {

// (x − mean)/√(variance + eps) over the last dimension, without weights.
inline torch::Tensor PlainLayerNorm(const torch::Tensor& x, double eps = 1e-6) { return LayerNormOf(x, {}, {}, eps); }

// x (1 + scale) + shift. x: [N, tokens, D]; the others [N, D].
inline torch::Tensor Modulate(const torch::Tensor& x, const torch::Tensor& shift, const torch::Tensor& scale) {
  return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1);
}

// c = mlp(sinusoids(t)) + table[class]. The table has a row more than there are classes: the null class of guidance.
// Keys: timestep_embedder.linear_1, timestep_embedder.linear_2, class_embedder.embedding_table.
class TimestepClassEmbeddingImpl : public torch::nn::Module {
 public:
  // `freq_shift`: of the sinusoids (time_embedding.h), cosines first.
  TimestepClassEmbeddingImpl(int64_t classes, int64_t width, double freq_shift);

  // timesteps: [N] or [1]; classes: int64 [N]; returns [N, width] in `dtype`.
  torch::Tensor forward(const torch::Tensor& timesteps, const torch::Tensor& classes, torch::ScalarType dtype);

 private:
  const double freq_shift_;
  TimestepEmbedding timestep_embedder_{nullptr};
  Embedding class_embedder_{nullptr};
};
TORCH_MODULE(TimestepClassEmbedding);

// What a block takes from the condition: `chunks` vectors of the stream's width, one linear layer over silu(c). Begins
// at 0 in training, so that gated branches add nothing at first (the Zero of adaLN-Zero). Key: linear.
class AdaModulationImpl : public torch::nn::Module {
 public:
  AdaModulationImpl(int64_t width, int64_t chunks);
  // condition_silu: [N, width] → `chunks` of [N, width].
  std::vector<torch::Tensor> forward(const torch::Tensor& condition_silu);

 private:
  const int64_t chunks_;
  Linear linear_{nullptr};
};
TORCH_MODULE(AdaModulation);

}  // namespace loupe::worker::nn
