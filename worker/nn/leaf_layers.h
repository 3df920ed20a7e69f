// The layers that hold weights: Linear, Conv2d, GroupNorm, LayerNorm, Embedding. They are torch.nn's layers of the same
// name with one difference: construction leaves the weights uninitialised, since a network is nearly always filled from
// a checkpoint (860 M random numbers for Stable Diffusion v1 would be thrown away). InitialiseAsTorch gives torch.nn's
// own initial values to a network that is to be trained from nothing.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>

namespace loupe::worker {

// Implemented by every layer here.
class LeafLayer {
 public:
  virtual ~LeafLayer() = default;
  // torch.nn's default initial values, drawn from `generator` (weight first, then bias).
  virtual void Reset(const at::Generator& generator) = 0;
};

// Resets every LeafLayer under `root`, in registration order.
void InitialiseAsTorch(torch::nn::Module& root, const at::Generator& generator);

// y = x Wᵀ + b; weight [out, in], bias [out]. x: [..., in].
class LinearImpl : public torch::nn::Module, public LeafLayer {
 public:
  LinearImpl(int64_t in, int64_t out, bool with_bias = true);
  torch::Tensor forward(const torch::Tensor& x) { return torch::linear(x, weight, bias); }
  void Reset(const at::Generator& generator) override;

  torch::Tensor weight;
  torch::Tensor bias;  // undefined without one
};
TORCH_MODULE(Linear);

// Square kernel, zero padding; weight [out, in, k, k]. x: [N, in, H, W].
class Conv2dImpl : public torch::nn::Module, public LeafLayer {
 public:
  Conv2dImpl(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, int64_t padding = 0, bool with_bias = true);
  torch::Tensor forward(const torch::Tensor& x);
  void Reset(const at::Generator& generator) override;

  torch::Tensor weight;
  torch::Tensor bias;  // undefined without one

 private:
  int64_t stride_;
  int64_t padding_;
};
TORCH_MODULE(Conv2d);

// Per group of channels: (x − mean) / √(variance + eps), then weight and bias per channel. x: [N, C, …]. On a CPU a
// bfloat16 input gives a float32 output.
class GroupNormImpl : public torch::nn::Module, public LeafLayer {
 public:
  GroupNormImpl(int64_t groups, int64_t channels, double eps);
  torch::Tensor forward(const torch::Tensor& x);
  void Reset(const at::Generator& generator) override;

  torch::Tensor weight;
  torch::Tensor bias;

 private:
  int64_t groups_;
  double eps_;
};
TORCH_MODULE(GroupNorm);

// Normalises the last dimension. x: [..., width].
class LayerNormImpl : public torch::nn::Module, public LeafLayer {
 public:
  explicit LayerNormImpl(int64_t width, double eps = 1e-5);
  torch::Tensor forward(const torch::Tensor& x) { return torch::layer_norm(x, {weight.size(0)}, weight, bias, eps_); }
  void Reset(const at::Generator& generator) override;

  torch::Tensor weight;
  torch::Tensor bias;

 private:
  double eps_;
};
TORCH_MODULE(LayerNorm);

// Rows of a table: ids int64 [...] → [..., width].
class EmbeddingImpl : public torch::nn::Module, public LeafLayer {
 public:
  EmbeddingImpl(int64_t rows, int64_t width);
  torch::Tensor forward(const torch::Tensor& ids) { return torch::embedding(weight, ids); }
  void Reset(const at::Generator& generator) override;

  torch::Tensor weight;
};
TORCH_MODULE(Embedding);

}  // namespace loupe::worker
