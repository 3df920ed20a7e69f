// What an optimiser works on: one slot's part of a method's parameters, or a whole network's.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "worker/methods/method.h"

namespace loupe::worker::train {

// A row of a parameter of the pack, or all of a network's parameter. Names are unique within a slot, and the same
// whether it is alone or in a pack.
class SlotParameter {
 public:
  SlotParameter(const methods::NamedParameter& parameter, int64_t slot)
      : name_(parameter.name),
        packed_(parameter.value),
        row_(slot - parameter.first_slot),
        value_(parameter.value.detach()[row_]) {}
  SlotParameter(std::string name, const torch::Tensor& whole)
      : name_(std::move(name)), packed_(whole), row_(kWhole), value_(whole.detach()) {}

  const std::string& name() const { return name_; }
  // The trained value, […]: writing into it changes the method's.
  const torch::Tensor& value() const { return value_; }
  // [1, …], this slot's part of the gradient, which may be written into; undefined when nothing came.
  torch::Tensor GradientInPlace() const {
    const torch::Tensor& gradient = packed_.grad();
    if (!gradient.defined()) return gradient;
    return row_ == kWhole ? gradient.unsqueeze(0) : gradient.narrow(0, row_, 1);
  }
  // The same laid out as the value is (the fused optimiser walks both alike), copied if need be.
  torch::Tensor Gradient() const {
    torch::Tensor gradient = GradientInPlace();
    if (!gradient.defined() || gradient[0].strides() == value_.strides()) return gradient;
    return torch::empty_like(value_).unsqueeze(0).copy_(gradient);
  }
  // Of all slots that share it.
  void ClearGradient() { packed_.mutable_grad().reset(); }

 private:
  static constexpr int64_t kWhole = -1;

  std::string name_;
  torch::Tensor packed_;
  int64_t row_;
  torch::Tensor value_;
};

// In the method's order.
inline std::vector<SlotParameter> ParametersOfSlot(const std::vector<methods::NamedParameter>& parameters,
                                                   int64_t slot) {
  std::vector<SlotParameter> found;
  for (const methods::NamedParameter& parameter : parameters) {
    if (parameter.Holds(slot)) found.emplace_back(parameter, slot);
  }
  return found;
}

// All of them, in the network's order and by its names.
inline std::vector<SlotParameter> ParametersOfNetwork(const torch::nn::Module& network) {
  std::vector<SlotParameter> found;
  for (const auto& item : network.named_parameters()) found.emplace_back(item.key(), item.value());
  return found;
}

}  // namespace loupe::worker::train
