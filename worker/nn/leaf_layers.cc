#include "worker/nn/leaf_layers.h"

#include <torch/utils.h>

#include <cmath>
#include <vector>

namespace loupe::worker::nn {
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

torch::Tensor LeafLayer::Hooked(const torch::Tensor& x) const {
  const std::vector<LayerSlot::Entry>& entries = slot.entries();
  const int64_t total = entries.front().range.total;
  // The slots from `own_first` on that wait for the layer's own output, and the hooks among them that go on from it.
  int64_t own_first = 0;
  std::vector<const LayerSlot::Entry*> extending;
  std::vector<torch::Tensor> pieces;
  const auto compute_own = [&](int64_t end) {
    if (end == own_first) return;
    const SlotRange run{own_first, end - own_first, total};
    const torch::Tensor own = Apply(run.Rows(x), weight, bias);
    const auto within = [&](int64_t first, int64_t slots) {
      return SlotRange{first - run.first, slots, run.count}.Rows(own);
    };
    int64_t next = own_first;
    for (const LayerSlot::Entry* entry : extending) {
      if (entry->range.first > next) pieces.push_back(within(next, entry->range.first - next));
      pieces.push_back(entry->part->Forward(entry->range.Rows(x), within(entry->range.first, entry->range.count)));
      next = entry->range.end();
    }
    if (end > next) pieces.push_back(within(next, end - next));
    extending.clear();
  };
  for (const LayerSlot::Entry& entry : entries) {
    if (entry.part->extends()) {
      extending.push_back(&entry);
      continue;
    }
    compute_own(entry.range.first);
    pieces.push_back(entry.part->Forward(entry.range.Rows(x), {}));
    own_first = entry.range.end();
  }
  compute_own(total);
  return pieces.size() == 1 ? pieces.front() : torch::cat(pieces);
}

LinearImpl::LinearImpl(int64_t in, int64_t out, bool with_bias) {
  weight = register_parameter("weight", Uninitialised({out, in}), false);
  if (with_bias) bias = register_parameter("bias", Uninitialised({out}), false);
}

torch::Tensor LinearImpl::Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& b) const {
  // A hook's own weight is LibTorch's, whether it wants a gradient now or not.
  return w.is_same(weight) ? kernel_(x, WeightInPass(w), BiasInPass(b)) : torch::linear(x, w, BiasInPass(b));
}

torch::Tensor LinearImpl::FeedForward(const torch::Tensor& x, kernels::BetweenProducts between, LinearImpl& out) {
  const auto frozen = [&](const LinearImpl& layer) {
    return layer.slot.empty() && LinearKernel::Takes(x, layer.weight) && layer.bias.defined() &&
           !layer.bias.requires_grad() && layer.bias.is_contiguous();
  };
  if (frozen(*this) && frozen(out)) {
    return KernelFeedForward(x, kernel_, weight, bias, between, out.kernel_, out.weight, out.bias);
  }
  const torch::Tensor h = forward(x);
  return out.forward(between == kernels::BetweenProducts::kGeglu ? GeluGated(h)
                                                                 : Activated(h, kernels::Activation::kGeluTanh));
}

void LinearImpl::Reset(const at::Generator& generator) { ResetUniform(weight, bias, generator); }

Conv2dImpl::Conv2dImpl(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding, bool with_bias)
    : stride_(stride), padding_(padding) {
  weight = register_parameter("weight", Uninitialised({out, in, kernel, kernel}), false);
  if (with_bias) bias = register_parameter("bias", Uninitialised({out}), false);
}

torch::Tensor Conv2dImpl::Apply(const torch::Tensor& x, const torch::Tensor& given, const torch::Tensor& b) const {
  const bool own = given.is_same(weight);
  const torch::Tensor w = WeightInPass(given), add = BiasInPass(b);
  if (w.size(2) == 1 && stride_ == 1 && padding_ == 0 && x.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    // A matrix product over pixels, without the copies that a convolution of small pictures makes on the CPU.
    const torch::Tensor pixels = x.permute({0, 2, 3, 1}), matrix = w.view({w.size(0), w.size(1)});
    return (own ? per_pixel_(pixels, matrix, add) : torch::linear(pixels, matrix, add)).permute({0, 3, 1, 2});
  }
  if (w.size(2) != 3 || stride_ != 1 || padding_ != 1) return torch::conv2d(x, w, add, stride_, padding_);
  return (own ? kernel_ : hooks_kernel_)(x, w, add);
}

void Conv2dImpl::Reset(const at::Generator& generator) { ResetUniform(weight, bias, generator); }

GroupNormImpl::GroupNormImpl(int64_t groups, int64_t channels, double eps) : groups_(groups), eps_(eps) {
  weight = register_parameter("weight", Uninitialised({channels}), false);
  bias = register_parameter("bias", Uninitialised({channels}), false);
  TORCH_CHECK(channels % groups == 0, "GroupNorm: ", groups, " groups do not divide ", channels, " channels");
}

torch::Tensor GroupNormImpl::Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& b) const {
  return GroupNormThen(x, groups_, w, b, eps_, kernels::AfterNorm::kNothing);
}

torch::Tensor GroupNormImpl::ThenSilu(const torch::Tensor& x) {
  if (!slot.empty()) return torch::silu(Hooked(x));
  return GroupNormThen(x, groups_, weight, bias, eps_, kernels::AfterNorm::kSilu);
}

void GroupNormImpl::Reset(const at::Generator&) { ResetAffine(weight, bias); }

LayerNormImpl::LayerNormImpl(int64_t width, double eps) : eps_(eps) {
  weight = register_parameter("weight", Uninitialised({width}), false);
  bias = register_parameter("bias", Uninitialised({width}), false);
}

void LayerNormImpl::Reset(const at::Generator&) { ResetAffine(weight, bias); }

EmbeddingImpl::EmbeddingImpl(int64_t rows, int64_t width) {
  weight = register_parameter("weight", Uninitialised({rows, width}), false);
}

void EmbeddingImpl::Reset(const at::Generator& generator) {
  torch::NoGradGuard no_grad;
  weight.normal_(0, 1, generator);
}

}  // namespace loupe::worker::nn
