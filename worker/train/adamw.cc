#include "worker/train/adamw.h"

#include <torch/utils.h>

#include <optional>
#include <utility>

namespace loupe::worker::train {

AdamW::AdamW(std::vector<SlotParameter> parameters, const AdamWOptions& options)
    : Optimizer(std::move(parameters)), options_(options) {
  for (const SlotParameter& parameter : parameters_) {
    exp_avg_.push_back(torch::zeros_like(parameter.value()).unsqueeze(0));
    exp_avg_sq_.push_back(torch::zeros_like(parameter.value()).unsqueeze(0));
  }
  const torch::Device device = parameters_.front().value().device();
  count_ = torch::zeros({}, torch::TensorOptions(torch::kFloat32).device(device));
  rate_ = torch::zeros({}, count_.options().dtype(device.is_cpu() ? torch::kFloat64 : torch::kFloat32));
}

torch::Tensor AdamW::Clip(std::vector<torch::Tensor>& gradients) const {
  torch::Tensor squares;
  for (const torch::Tensor& gradient : gradients) {
    const auto square = gradient.flatten(1).square().sum(1);
    squares = squares.defined() ? squares + square : square;
  }
  torch::Tensor norm = squares.sqrt();
  if (options_.clip_norm > 0) {
    // As torch.nn.utils.clip_grad_norm_ has it: never scaled up.
    const auto factor = (options_.clip_norm / (norm + 1e-6)).clamp_max(1.0);
    for (torch::Tensor& gradient : gradients) gradient = gradient * factor;
  }
  return norm;
}

void AdamW::Prepare(double rate_factor) {
  count_.fill_(static_cast<double>(steps_ + 1));
  rate_.fill_(options_.learning_rate * rate_factor);
}

torch::Tensor AdamW::Apply(const torch::Tensor& skip) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> values, gradients;
  for (const SlotParameter& parameter : parameters_) {
    values.push_back(parameter.value().unsqueeze(0));
    const torch::Tensor gradient = parameter.Gradient();
    gradients.push_back(gradient.defined() ? gradient : torch::zeros_like(values.back()));
  }
  torch::Tensor norm = Clip(gradients);
  const std::vector<torch::Tensor> counts(values.size(), count_);
  at::_fused_adamw_(values, gradients, exp_avg_, exp_avg_sq_, /*max_exp_avg_sqs=*/{}, counts, rate_, options_.beta1,
                    options_.beta2, options_.weight_decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false,
                    /*grad_scale=*/{}, /*found_inf=*/skip.defined() ? std::optional(skip) : std::nullopt);
  return norm;
}

std::vector<torch::Tensor> AdamW::Moments() const {
  std::vector<torch::Tensor> moments = exp_avg_;
  moments.insert(moments.end(), exp_avg_sq_.begin(), exp_avg_sq_.end());
  return moments;
}

TensorMap AdamW::Export() const {
  TensorMap arrays;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    arrays[parameters_[i].name() + ".exp_avg"] = exp_avg_[i][0].cpu();
    arrays[parameters_[i].name() + ".exp_avg_sq"] = exp_avg_sq_[i][0].cpu();
  }
  return arrays;
}

void AdamW::Import(const TensorMap& arrays, int64_t steps) {
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    CopyInto(exp_avg_[i][0], arrays, parameters_[i].name() + ".exp_avg");
    CopyInto(exp_avg_sq_[i][0], arrays, parameters_[i].name() + ".exp_avg_sq");
  }
  steps_ = steps;
}

}  // namespace loupe::worker::train
