#include "worker/nn/s4d.h"

#include <torch/utils.h>

#include <cmath>
#include <numbers>

#include "worker/runtime/autocast_scope.h"

namespace loupe::worker {
namespace {

constexpr double kLeastStep = 0.001, kGreatestStep = 0.1;

}  // namespace

S4DImpl::S4DImpl(int64_t channels, int64_t states, Discretisation discretisation)
    : pairs_(states / 2), discretisation_(discretisation) {
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

torch::Tensor S4DImpl::Kernel(const torch::Tensor& w, int64_t length) const {
  const auto part = [&](int64_t index) { return w.narrow(1, 2 + index * pairs_, pairs_); };
  const auto step = w.narrow(1, 0, 1).exp();
  const auto a = torch::complex(-part(0).exp(), part(1)), c = torch::complex(part(2), part(3));
  const auto scaled = a * step;
  torch::Tensor log_decay, input;  // log Ā and B̄, [H, pairs]
  if (discretisation_ == Discretisation::kZeroOrderHold) {
    log_decay = scaled;
    input = (scaled.exp() - 1) / a;
  } else {
    log_decay = ((1 + 0.5 * scaled) / (1 - 0.5 * scaled)).log();
    input = step / (1 - 0.5 * scaled);
  }
  // Ā^l for l = r·block + s as a product of Ā^(r·block) and Ā^s: a matrix product over n, and 2√L exponentials in
  // place of L.
  int64_t block = 1;
  while (block * block < length) block *= 2;
  const int64_t rows = (length + block - 1) / block;
  const auto count = [&](int64_t n) { return torch::arange(n, w.options().requires_grad(false)); };
  const auto outer = ((log_decay * static_cast<double>(block)).unsqueeze(1) * count(rows).view({1, -1, 1})).exp();
  const auto inner = (log_decay.unsqueeze(2) * count(block).view({1, 1, -1})).exp();
  const auto powers = torch::bmm((c * input).unsqueeze(1) * outer, inner);  // [H, rows, block]
  return 2 * torch::real(powers).reshape({w.size(0), rows * block}).narrow(1, 0, length);
}

torch::Tensor S4DImpl::Apply(const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& /*b*/) const {
  const AutocastScope plain({x.device().type(), false, torch::kBFloat16});
  const auto type = x.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const int64_t length = x.size(1);
  const auto u = x.to(type), values = w.to(type);
  // Twice the length: the convolution must not wrap around.
  const auto kernel = at::fft_rfft(Kernel(values, length).t(), 2 * length, 0);
  const auto spectrum = at::fft_rfft(u, 2 * length, 1) * kernel.unsqueeze(0);
  const auto y = at::fft_irfft(spectrum, 2 * length, 1).narrow(1, 0, length);
  return (y + u * values.select(1, 1)).to(x.scalar_type());
}

BidirectionalS4DImpl::BidirectionalS4DImpl(int64_t channels, int64_t states, Discretisation discretisation)
    : forward_(register_module("forward", S4D(channels, states, discretisation))),
      backward_(register_module("backward", S4D(channels, states, discretisation))) {}

torch::Tensor BidirectionalS4DImpl::forward(const torch::Tensor& x) {
  return torch::cat({forward_(x), backward_(x.flip({1})).flip({1})}, 2);
}

}  // namespace loupe::worker
