#include "worker/nn/leaf_layers.h"

#include <torch/utils.h>

#include <cmath>

namespace loupe::worker {
namespace {

torch::Tensor Uninitialised(at::IntArrayRef shape) {
  return torch::empty(shape, torch::dtype(torch::kFloat32).requires_grad(false));
}

// U(−1/√fan_in, 1/√fan_in), which is kaiming_uniform with a = √5: torch.nn's default for Linear and Conv, bias
// included.
void ResetUniform(torch::Tensor& weight, torch::Tensor& bias, const at::Generator& generator) {
  torch::NoGradGuard no_grad;
  const double bound = 1.0 / std::sqrt(static_cast<double>(weight[0].numel()));
  weight.uniform_(-bound, bound, generator);
  if (bias.defined()) bias.uniform_(-bound, bound, generator);
}

void ResetAffine(torch::Tensor& weight, torch::Tensor& bias) {
  torch::NoGradGuard no_grad;
  weight.fill_(1);
  bias.zero_();
}

}  // namespace

void InitialiseAsTorch(torch::nn::Module& root, const at::Generator& generator) {
  root.apply([&](torch::nn::Module& module) {
    if (auto* leaf = dynamic_cast<LeafLayer*>(&module)) leaf->Reset(generator);
  });
}

LinearImpl::LinearImpl(int64_t in, int64_t out, bool with_bias)
    : weight(register_parameter("weight", Uninitialised({out, in}), false)) {
  if (with_bias) bias = register_parameter("bias", Uninitialised({out}), false);
}

void LinearImpl::Reset(const at::Generator& generator) { ResetUniform(weight, bias, generator); }

Conv2dImpl::Conv2dImpl(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding, bool with_bias)
    : weight(register_parameter("weight", Uninitialised({out, in, kernel, kernel}), false)),
      stride_(stride),
      padding_(padding) {
  if (with_bias) bias = register_parameter("bias", Uninitialised({out}), false);
}

torch::Tensor Conv2dImpl::forward(const torch::Tensor& x) {
  const bool per_pixel = weight.size(2) == 1 && stride_ == 1 && padding_ == 0;
  if (!per_pixel || !x.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    return torch::conv2d(x, weight, bias, stride_, padding_);
  }
  // A matrix product over pixels, without the copies that a convolution of small pictures makes on the CPU.
  return torch::linear(x.permute({0, 2, 3, 1}), weight.view({weight.size(0), weight.size(1)}), bias)
      .permute({0, 3, 1, 2});
}

void Conv2dImpl::Reset(const at::Generator& generator) { ResetUniform(weight, bias, generator); }

GroupNormImpl::GroupNormImpl(int64_t groups, int64_t channels, double eps)
    : weight(register_parameter("weight", Uninitialised({channels}), false)),
      bias(register_parameter("bias", Uninitialised({channels}), false)),
      groups_(groups),
      eps_(eps) {
  TORCH_CHECK(channels % groups == 0, "GroupNorm: ", groups, " groups do not divide ", channels, " channels");
}

torch::Tensor GroupNormImpl::forward(const torch::Tensor& x) {
  // On a CPU, LibTorch's bfloat16 norm takes longer than widening and the float32 norm together.
  const bool widen = x.is_cpu() && x.scalar_type() == torch::kBFloat16;
  return torch::group_norm(widen ? x.to(torch::kFloat32) : x, groups_, weight, bias, eps_);
}

void GroupNormImpl::Reset(const at::Generator&) { ResetAffine(weight, bias); }

LayerNormImpl::LayerNormImpl(int64_t width, double eps)
    : weight(register_parameter("weight", Uninitialised({width}), false)),
      bias(register_parameter("bias", Uninitialised({width}), false)),
      eps_(eps) {}

void LayerNormImpl::Reset(const at::Generator&) { ResetAffine(weight, bias); }

EmbeddingImpl::EmbeddingImpl(int64_t rows, int64_t width)
    : weight(register_parameter("weight", Uninitialised({rows, width}), false)) {}

void EmbeddingImpl::Reset(const at::Generator& generator) {
  torch::NoGradGuard no_grad;
  weight.normal_(0, 1, generator);
}

}  // namespace loupe::worker
