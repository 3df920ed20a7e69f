#include "worker/nn/attention.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/nn/modules/linear.h>

#include <cmath>

#include "worker/nn/kernel_functions.h"
#include "worker/nn/shared_prefix.h"
#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::nn {
namespace {

// A level of the checkpoint's names that holds one layer.
class NamedHolder : public torch::nn::Module {
 public:
  NamedHolder(const std::string& name, const Linear& layer) { register_module(name, layer); }
};

// 16 MB a row and eight heads: beyond it, what the fused attention never stores would be most of a training step's
// memory.
constexpr int64_t kMostWrittenOutScores = 1 << 20;

// LibTorch's fused attention, but for bfloat16 gradients on a CPU: there its backward pass takes several times as long
// as the four operations it stands for, whose products CPUs with matrix units (AMX) do fast.
torch::Tensor ScaledDotProduct(const torch::Tensor& queries, const KeysValues& context) {
  RECORD_USER_SCOPE("loupe.attention");
  const bool trains = torch::autograd::compute_requires_grad(queries, context.keys, context.values);
  const bool small = queries.size(2) * context.keys.size(2) <= kMostWrittenOutScores;
  if (!trains || !small || !queries.is_cpu() || queries.scalar_type() != torch::kBFloat16) {
    return AttentionOf(queries, context.keys, context.values);
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(queries.size(3)));
  const auto scores = torch::matmul(queries * scale, context.keys.transpose(2, 3));
  torch::Tensor shares;
  {
    // Autocast would widen the softmax; its result is rounded to bfloat16 for the next product anyway.
    const runtime::AutocastScope as_it_is({torch::kCPU, false, torch::kBFloat16});
    shares = scores.softmax(3);
  }
  return torch::matmul(shares, context.values);
}

}  // namespace

AttentionImpl::AttentionImpl(int64_t width, int64_t context_width, int64_t heads, bool qkv_bias)
    : heads_(heads),
      to_q_(register_module("to_q", Linear(width, width, qkv_bias))),
      to_k_(register_module("to_k", Linear(context_width, width, qkv_bias))),
      to_v_(register_module("to_v", Linear(context_width, width, qkv_bias))),
      to_out_(register_module("to_out", torch::nn::ModuleList(Linear(width, width)))) {
  TORCH_CHECK(width % heads == 0, "attention: ", heads, " heads do not divide a width of ", width);
}

torch::Tensor AttentionImpl::SplitHeads(const torch::Tensor& x) const {
  return x.view({x.size(0), x.size(1), heads_, x.size(2) / heads_}).transpose(1, 2);
}

KeysValues AttentionImpl::Project(const torch::Tensor& context) {
  const auto by = [&](Linear& layer) {
    return SharedOr(
        layer.get(), layer->slot.empty(), [&](const torch::Tensor& in) { return SplitHeads(layer(in)); }, context);
  };
  return {by(to_k_), by(to_v_)};
}

torch::Tensor AttentionImpl::Attend(const torch::Tensor& x, const KeysValues& context) {
  auto y = ScaledDotProduct(SplitHeads(to_q_(x)), context);
  return to_out_[0]->as<LinearImpl>()->forward(y.transpose(1, 2).reshape({x.size(0), x.size(1), x.size(2)}));
}

bool AttentionImpl::untouched() const {
  return to_q_->slot.empty() && to_k_->slot.empty() && to_v_->slot.empty() &&
         to_out_.get()->at<LinearImpl>(0).slot.empty();
}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x, const torch::Tensor& context) {
  return Attend(x, Project(context));
}

FeedForwardImpl::FeedForwardImpl(int64_t width, FeedForwardKind kind)
    : kind_(kind), in_(width, (kind == FeedForwardKind::kGeglu ? 8 : 4) * width), out_(4 * width, width) {
  // net.0 is the activation with its projection, net.1 a dropout without weights, net.2 the way back.
  torch::nn::ModuleList net;
  net->push_back(std::make_shared<NamedHolder>("proj", in_));
  net->push_back(std::make_shared<torch::nn::IdentityImpl>());
  net->push_back(out_.ptr());
  register_module("net", net);
}

torch::Tensor FeedForwardImpl::forward(const torch::Tensor& x) {
  const bool gated = kind_ == FeedForwardKind::kGeglu;
  return in_->FeedForward(x, gated ? kernels::BetweenProducts::kGeglu : kernels::BetweenProducts::kGeluTanh, *out_);
}

}  // namespace loupe::worker::nn
