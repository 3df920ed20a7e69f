#include "worker/train/adamw.h"

#include <torch/utils.h>

#include <utility>

namespace loupe::worker {

AdamW::AdamW(std::vector<SlotParameter> parameters, const AdamWOptions& options)
    : options_(options), parameters_(std::move(parameters)) {
  for (const SlotParameter& parameter : parameters_) {
    exp_avg_.push_back(torch::zeros_like(parameter.value()).unsqueeze(0));
    exp_avg_sq_.push_back(torch::zeros_like(parameter.value()).unsqueeze(0));
  }
}

void AdamW::Rebind(std::vector<SlotParameter> parameters) {
  TORCH_CHECK(parameters.size() == parameters_.size(), "the slot has ", parameters.size(), " parameters; expected ",
              parameters_.size());
  parameters_ = std::move(parameters);
}

torch::Tensor AdamW::Clip(std::vector<torch::Tensor>& gradients) const {
  torch::Tensor squares;
  for (const torch::Tensor& gradient : gradients) {
    const auto square = gradient.flatten(1).square().sum(1);
    squares = squares.defined() ? squares + square : square;
  }
  const auto norm = squares.sqrt();
  if (options_.clip_norm > 0) {
    // As torch.nn.utils.clip_grad_norm_: never scaled up.
    const auto factor = (options_.clip_norm / (norm + 1e-6)).clamp_max(1.0);
    for (torch::Tensor& gradient : gradients) gradient = gradient * factor;
  }
  return norm;
}

torch::Tensor AdamW::Step(double rate_factor) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> values, gradients;
  for (const SlotParameter& parameter : parameters_) {
    values.push_back(parameter.value().unsqueeze(0));
    const torch::Tensor gradient = parameter.Gradient();
    gradients.push_back(gradient.defined() ? gradient : torch::zeros_like(values.back()));
  }
  const torch::Tensor norm = Clip(gradients);
  ++steps_;
  const auto count = torch::full({}, static_cast<double>(steps_), values.front().options());
  const std::vector<torch::Tensor> counts(values.size(), count);
  at::_fused_adamw_(values, gradients, exp_avg_, exp_avg_sq_, /*max_exp_avg_sqs=*/{}, counts,
                    options_.learning_rate * rate_factor, options_.beta1, options_.beta2, options_.weight_decay,
                    options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  return norm;
}

std::map<std::string, torch::Tensor> AdamW::Export() const {
  std::map<std::string, torch::Tensor> arrays;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    arrays[parameters_[i].name() + ".exp_avg"] = exp_avg_[i][0].cpu();
    arrays[parameters_[i].name() + ".exp_avg_sq"] = exp_avg_sq_[i][0].cpu();
  }
  return arrays;
}

void AdamW::Import(const std::map<std::string, torch::Tensor>& arrays, int64_t steps) {
  const auto take = [&](const std::string& name, torch::Tensor into) {
    const auto found = arrays.find(name);
    TORCH_CHECK(found != arrays.end(), "the checkpoint has no array '", name, "'");
    TORCH_CHECK(found->second.sizes() == into.sizes(), "the checkpoint's array '", name, "' has shape ",
                found->second.sizes(), "; expected ", into.sizes());
    into.copy_(found->second);
  };
  for (size_t i = 0; i < parameters_.size(); ++i) {
    take(parameters_[i].name() + ".exp_avg", exp_avg_[i][0]);
    take(parameters_[i].name() + ".exp_avg_sq", exp_avg_sq_[i][0]);
  }
  steps_ = steps;
}

}  // namespace loupe::worker
