#include "worker/train/training_state.h"

#include <ATen/record_function.h>
#include <torch/utils.h>

#include <utility>

#include "fmt/format.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::train {

TrainingState::TrainingState(std::vector<SlotParameter> parameters, std::unique_ptr<Optimizer> optimizer,
                             double ema_decay)
    : parameters_(std::move(parameters)), optimizer_(std::move(optimizer)), ema_decay_(ema_decay) {
  if (ema_decay > 0) average_ = RunningAverage(Values());
}

std::vector<torch::Tensor> TrainingState::Values() const {
  std::vector<torch::Tensor> values;
  for (const SlotParameter& parameter : parameters_) values.push_back(parameter.value());
  return values;
}

torch::Tensor TrainingState::Step(double rate_factor) {
  Prepare(rate_factor);
  torch::Tensor norm = Apply({});
  Commit();
  return norm;
}

void TrainingState::Prepare(double rate_factor) {
  optimizer_->Prepare(rate_factor);
  average_.Prepare(ema_decay_, steps() + 1);
}

torch::Tensor TrainingState::Apply(const torch::Tensor& skip) {
  RECORD_USER_SCOPE("loupe.optimiser");
  torch::Tensor norm = optimizer_->Apply(skip);
  average_.Update(Values(), skip);
  return norm;
}

std::vector<torch::Tensor> TrainingState::Changed() const {
  std::vector<torch::Tensor> changed = Values();
  for (const torch::Tensor& moment : optimizer_->Moments()) changed.push_back(moment);
  for (const torch::Tensor& average : average_.averages()) changed.push_back(average);
  return changed;
}

void TrainingState::ClearGradients() {
  for (SlotParameter& parameter : parameters_) parameter.ClearGradient();
}

void TrainingState::MoveTo(std::vector<SlotParameter> there) {
  torch::NoGradGuard no_grad;
  TORCH_CHECK(there.size() == parameters_.size(), "the slot has ", parameters_.size(), " parameters, but ",
              there.size(), " in another pack");
  for (size_t i = 0; i < there.size(); ++i) {
    TORCH_CHECK(there[i].name() == parameters_[i].name(), "the slot's parameter ", i, " is '", parameters_[i].name(),
                "', but '", there[i].name(), "' in another pack");
    there[i].value().copy_(parameters_[i].value());
  }
  parameters_ = std::move(there);
  optimizer_->Rebind(parameters_);
}

std::string TrainingState::DescribeNotFinite() const {
  const auto& averages = average_.averages();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    std::string found = runtime::DescribeNotFinite(parameters_[i].value());
    if (found.empty() && i < averages.size()) found = runtime::DescribeNotFinite(averages[i]);
    if (!found.empty()) return fmt::format("{}: {}", parameters_[i].name(), found);
  }
  return "";
}

TensorMap TrainingState::Save() const {
  TensorMap arrays;
  const auto& averages = average_.averages();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    arrays["value." + parameters_[i].name()] = parameters_[i].value().cpu();
    if (i < averages.size()) arrays["average." + parameters_[i].name()] = averages[i].cpu();
  }
  AddWithPrefix("optimizer.", optimizer_->Export(), arrays);
  return arrays;
}

void TrainingState::Restore(const TensorMap& arrays, int64_t steps) {
  torch::NoGradGuard no_grad;
  const auto& averages = average_.averages();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    CopyInto(parameters_[i].value(), arrays, "value." + parameters_[i].name());
    if (i < averages.size()) CopyInto(averages[i], arrays, "average." + parameters_[i].name());
  }
  optimizer_->Import(WithPrefixRemoved("optimizer.", arrays), steps);
}

void AddWithPrefix(const std::string& prefix, const TensorMap& from, TensorMap& into) {
  for (const auto& [name, value] : from) into[prefix + name] = value;
}

TensorMap WithPrefixRemoved(const std::string& prefix, const TensorMap& from) {
  TensorMap found;
  for (const auto& [name, value] : from) {
    if (name.starts_with(prefix)) found[name.substr(prefix.size())] = value;
  }
  return found;
}

}  // namespace loupe::worker::train
