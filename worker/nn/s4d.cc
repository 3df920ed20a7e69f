#include "worker/nn/s4d.h"

#include <ATen/record_function.h>
#include <torch/utils.h>

#include <cmath>
#include <numbers>
#include <utility>

#include "worker/nn/long_convolution.h"
#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::nn {
namespace {

constexpr double kLeastStep = 0.001, kGreatestStep = 0.1;
// Of two directions the first looks back.
constexpr int64_t kBack = 1;

torch::ScalarType TransformType(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
}

}  // namespace

S4DImpl::S4DImpl(int64_t channels, int64_t states, Discretisation discretisation, Direction direction)
    : pairs_(states / 2), discretisation_(discretisation), direction_(direction) {
  TORCH_CHECK(states >= 2 && states % 2 == 0, "S4D: an even number of states, not ", states);
  weight = register_parameter(
      "weight", torch::empty({channels, 2 + 4 * pairs_}, torch::dtype(torch::kFloat32).requires_grad(false)), false);
}

void S4DImpl::Reset(const at::Generator& generator) {
  torch::NoGradGuard no_grad;
  const auto part = [&](int64_t index) { return weight.narrow(1, 2 + index * pairs_, pairs_); };
  weight.select(1, 0).uniform_(std::log(kLeastStep), std::log(kGreatestStep), generator);
  weight.select(1, 1).normal_(0, 1, generator);
  part(0).fill_(std::log(0.5));
  part(1).copy_(std::numbers::pi * torch::arange(pairs_, torch::kFloat32));
  // Of a complex normal number each part has variance ½.
  part(2).normal_(0, std::sqrt(0.5), generator);
  part(3).normal_(0, std::sqrt(0.5), generator);
}

// In real numbers throughout: LibTorch computes complex exponentials and logarithms one by one.
torch::Tensor S4DImpl::Kernel(const torch::Tensor& w, int64_t length) const {
  const auto part = [&](int64_t index) { return w.narrow(1, 2 + index * pairs_, pairs_); };
  const auto step = w.narrow(1, 0, 1).exp();
  const auto decay = -part(0).exp();                                // Re A
  const auto scaled_re = decay * step, scaled_im = part(1) * step;  // ΔA
  torch::Tensor log_re, log_im, input_re, input_im;                 // log Ā and B̄, [channels, pairs]
  if (discretisation_ == Discretisation::kZeroOrderHold) {
    log_re = scaled_re, log_im = scaled_im;
    // exp(ΔA) − 1, small as it may be, over A.
    const auto grown = scaled_re.expm1();
    const auto less_re = grown * scaled_im.cos() - 2 * (0.5 * scaled_im).sin().square();
    const auto less_im = (grown + 1) * scaled_im.sin();
    const auto squared = decay.square() + part(1).square();
    input_re = (less_re * decay + less_im * part(1)) / squared;
    input_im = (less_im * decay - less_re * part(1)) / squared;
  } else {
    const auto re = 0.5 * scaled_re, im = 0.5 * scaled_im;
    const auto squared = (1 - re).square() + im.square();  // |1 − ΔA/2|²
    log_re = 0.5 * (4 * re / squared).log1p();
    log_im = torch::atan2(im, 1 + re) + torch::atan2(im, 1 - re);
    input_re = step * (1 - re) / squared;
    input_im = step * im / squared;
  }
  // Ā^l for l = r·block + s as a product of Ā^(r·block) and Ā^s: a matrix product over n, and 2√L exponentials in
  // place of L.
  int64_t block = 1;
  while (block * block < length) block *= 2;
  const int64_t rows = (length + block - 1) / block;
  const auto count = [&](int64_t n) { return torch::arange(n, w.options().requires_grad(false)); };
  const auto powers = [&](const torch::Tensor& l) {  // [channels, pairs, l's]: Re, Im of Ā^l
    const auto size = (log_re.unsqueeze(2) * l).exp(), angle = log_im.unsqueeze(2) * l;
    return std::pair{size * angle.cos(), size * angle.sin()};
  };
  const auto [outer_re, outer_im] = powers(count(rows) * static_cast<double>(block));
  const auto [inner_re, inner_im] = powers(count(block));
  const auto times_re = (2 * (part(2) * input_re - part(3) * input_im)).unsqueeze(2);  // 2 C B̄
  const auto times_im = (2 * (part(2) * input_im + part(3) * input_re)).unsqueeze(2);
  const auto left = torch::cat({times_re * outer_re - times_im * outer_im,  //
                                -(times_re * outer_im + times_im * outer_re)},
                               1);
  const auto kernel =
      torch::bmm(left.transpose(1, 2), torch::cat({inner_re, inner_im}, 1)).view({w.size(0), rows * block});
  return torch::cat({kernel.narrow(1, 0, 1) + w.narrow(1, 1, 1), kernel.narrow(1, 1, length - 1)}, 1);
}

torch::Tensor S4DImpl::Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& /*b*/) const {
  RECORD_USER_SCOPE("loupe.state_space");
  const runtime::AutocastScope plain({x.device().type(), false, torch::kBFloat16});
  const auto type = TransformType(x);
  const auto kernel = Kernel(w.to(type), x.size(1)).unsqueeze(0);
  return LongConvolution(x.to(type), kernel, direction_ == Direction::kForward ? 1 : 0).to(x.scalar_type());
}

BidirectionalS4DImpl::BidirectionalS4DImpl(int64_t channels, int64_t states, Discretisation discretisation)
    : forward_(register_module("forward", S4D(channels, states, discretisation))),
      backward_(register_module("backward", S4D(channels, states, discretisation, Direction::kBackward))) {}

torch::Tensor BidirectionalS4DImpl::forward(const torch::Tensor& x) {
  if (!forward_->slot.empty() || !backward_->slot.empty()) return torch::cat({forward_(x), backward_(x)}, 2);
  // Both kernels in one go, on one transform of x.
  RECORD_USER_SCOPE("loupe.state_space");
  const runtime::AutocastScope plain({x.device().type(), false, torch::kBFloat16});
  const auto type = TransformType(x);
  const bool frozen = !forward_->weight.requires_grad() && !backward_->weight.requires_grad();
  const auto y = frozen ? LongConvolutionBy(x.to(type), KeptTransfer(x.size(1), type))
                        : LongConvolution(x.to(type), BothKernels(x.size(1), type), kBack);
  return y.to(x.scalar_type());
}

torch::Tensor BidirectionalS4DImpl::BothKernels(int64_t length, torch::ScalarType type) const {
  const auto values = torch::cat({forward_->weight, backward_->weight}).to(type);
  return forward_->Kernel(values, length).view({2, forward_->weight.size(0), length});
}

bool BidirectionalS4DImpl::KernelSource::operator==(const KernelSource& other) const {
  return forward.unsafeGetStorageImpl() == other.forward.unsafeGetStorageImpl() &&
         backward.unsafeGetStorageImpl() == other.backward.unsafeGetStorageImpl() &&
         forward_version == other.forward_version && backward_version == other.backward_version &&
         length == other.length && type == other.type;
}

BidirectionalS4DImpl::KernelSource BidirectionalS4DImpl::SourceOf(int64_t length, torch::ScalarType type) const {
  const torch::Tensor &ahead = forward_->weight, &against = backward_->weight;
  return {ahead.storage(), against.storage(), ahead._version(), against._version(), length, type};
}

torch::Tensor BidirectionalS4DImpl::KeptTransfer(int64_t length, torch::ScalarType type) {
  KernelSource source = SourceOf(length, type);
  {
    const std::lock_guard lock(mutex_);
    if (kept_.defined() && kept_source_ == source) return kept_;
  }
  auto made = TransferOf(BothKernels(length, type), kBack);
  if (made.numel() * made.itemsize() > kMostKept) return made;
  const std::lock_guard lock(mutex_);
  kept_source_ = std::move(source);
  kept_ = made;
  return made;
}

}  // namespace loupe::worker::nn
