// A network with every kind of tappable block, small enough to compare number by number.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/module.h>

#include <map>
#include <string>
#include <vector>

#include "common/settings/settings.h"
#include "worker/methods/method.h"
#include "worker/nn/resnet_block_2d.h"
#include "worker/nn/tappable.h"
#include "worker/nn/transformer_2d.h"

namespace loupe::worker::methods {

// Residual block 32→64, transformer of two blocks, residual block 64→48 (48 is no multiple of 32).
struct SmallNetworkImpl : torch::nn::Module {
  SmallNetworkImpl() {
    first = register_module("first", nn::ResnetBlock2D(nn::ResnetBlock2DOptions{32, 64, 8, 16, 1e-5}));
    transformer =
        register_module("transformer", nn::Transformer2DModel(nn::Transformer2DOptions{64, 24, 4, 2, 16, false}));
    last = register_module("last", nn::ResnetBlock2D(nn::ResnetBlock2DOptions{64, 48, 8, 16, 1e-5}));
    nn::InitialiseAsTorch(*this, at::detail::createCPUGenerator(1));
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& time, const torch::Tensor& context) {
    return last(transformer(first(x, time), context, nullptr), time);
  }
  nn::ResnetBlock2D first{nullptr}, last{nullptr};
  nn::Transformer2DModel transformer{nullptr};
};
TORCH_MODULE(SmallNetwork);

struct SmallInputs {
  torch::Tensor x, time, context;
};

inline SmallInputs MakeInputs(int64_t batch, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  const auto draw = [&](at::IntArrayRef shape) { return torch::empty(shape).normal_(0, 1, generator); };
  return {draw({batch, 32, 4, 4}), draw({batch, 8}), draw({batch, 5, 24})};
}

// Of any method: `values` must be complete but for what has nothing to do with it.
inline settings::Settings MethodSettings(const std::map<std::string, std::string>& values) {
  std::map<std::string, std::string> all = {{"base", "b"},
                                            {"scorer", "s"},
                                            {"task.images", "i"},
                                            {"task.instance_prompt", "a sks"},
                                            {"task.class_prompt", "a"},
                                            {"budget.steps", "3"}};
  for (const auto& [key, value] : values) all[key] = value;
  auto settings = settings::Settings::Create(all);
  TORCH_CHECK(settings.ok(), std::string(settings.status().message()));
  return *std::move(settings);
}

// Of an adapter.
inline settings::Settings CellSettings(const std::map<std::string, std::string>& values) {
  std::map<std::string, std::string> all = {{"method.input", "CA_out"}, {"method.output", "FFN_in"}};
  for (const auto& [key, value] : values) all[key] = value;
  if (!all.contains("method.parameters") && !all.contains("method.width")) all["method.width"] = "4";
  return MethodSettings(all);
}

}  // namespace loupe::worker::methods
