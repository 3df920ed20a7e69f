#include "worker/train/adamw.h"

#include <torch/utils.h>

namespace loupe::worker {

AdamW::AdamW(const std::vector<NamedParameter>& parameters, const AdamWOptions& options) : options_(options) {
  for (const NamedParameter& parameter : parameters) {
    names_.push_back(parameter.name);
    values_.push_back(parameter.value);
    exp_avg_.push_back(torch::zeros_like(parameter.value.detach()));
    exp_avg_sq_.push_back(torch::zeros_like(parameter.value.detach()));
    step_counts_.push_back(torch::zeros({}, parameter.value.options().requires_grad(false)));
  }
}

torch::Tensor AdamW::ClipPerSlot(std::vector<torch::Tensor>& gradients) const {
  // A parameter may hold a part of the slots only (a run of a pack): its norms then stand for that part, and packs of
  // different runs are not clipped together. Where all hold all slots, as in a solo run, the sum is over the
  // parameters.
  torch::Tensor squares;
  bool same = true;
  for (const torch::Tensor& gradient : gradients) same = same && gradient.size(0) == gradients.front().size(0);
  TORCH_CHECK(same || options_.clip_norm == 0, "clipping needs a pack whose trials share their positions");
  if (!same) return torch::full({1}, std::numeric_limits<double>::quiet_NaN());
  for (const torch::Tensor& gradient : gradients) {
    const auto square = gradient.flatten(1).square().sum(1);
    squares = squares.defined() ? squares + square : square;
  }
  const auto norms = squares.sqrt();
  if (options_.clip_norm > 0) {
    // As torch.nn.utils.clip_grad_norm_: never scaled up.
    const auto factors = (options_.clip_norm / (norms + 1e-6)).clamp_max(1.0);
    for (torch::Tensor& gradient : gradients) {
      std::vector<int64_t> shape(static_cast<size_t>(gradient.dim()), 1);
      shape[0] = gradient.size(0);
      gradient = gradient * factors.view(shape);
    }
  }
  return norms;
}

torch::Tensor AdamW::Step(double rate_factor) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> gradients;
  for (torch::Tensor& value : values_) {
    // The fused kernel walks parameters and gradients alike: same layout.
    gradients.push_back(value.grad().defined() ? value.grad().contiguous() : torch::zeros_like(value));
  }
  const torch::Tensor norms = ClipPerSlot(gradients);
  ++steps_;
  for (torch::Tensor& count : step_counts_) count.fill_(static_cast<double>(steps_));
  at::_fused_adamw_(values_, gradients, exp_avg_, exp_avg_sq_, /*max_exp_avg_sqs=*/{}, step_counts_,
                    options_.learning_rate * rate_factor, options_.beta1, options_.beta2, options_.weight_decay,
                    options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  for (torch::Tensor& value : values_) value.mutable_grad().reset();
  return norms;
}

std::map<std::string, torch::Tensor> AdamW::Export() const {
  std::map<std::string, torch::Tensor> arrays;
  for (size_t i = 0; i < names_.size(); ++i) {
    arrays[names_[i] + ".exp_avg"] = exp_avg_[i].cpu().clone();
    arrays[names_[i] + ".exp_avg_sq"] = exp_avg_sq_[i].cpu().clone();
  }
  return arrays;
}

void AdamW::Import(const std::map<std::string, torch::Tensor>& arrays, int64_t steps) {
  const auto take = [&](const std::string& name, torch::Tensor& into) {
    const auto found = arrays.find(name);
    TORCH_CHECK(found != arrays.end(), "the checkpoint has no array '", name, "'");
    TORCH_CHECK(found->second.sizes() == into.sizes(), "the checkpoint's array '", name, "' has shape ",
                found->second.sizes(), "; expected ", into.sizes());
    into.copy_(found->second);
  };
  for (size_t i = 0; i < names_.size(); ++i) {
    take(names_[i] + ".exp_avg", exp_avg_[i]);
    take(names_[i] + ".exp_avg_sq", exp_avg_sq_[i]);
  }
  steps_ = steps;
}

}  // namespace loupe::worker
