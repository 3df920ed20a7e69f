// A small network with methods attached to it, for tests that hold for many of them.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/worker/methods/small_network.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/autocast_scope.h"
#include "worker/runtime/recompute.h"

namespace loupe::worker::methods {

using Values = std::map<std::string, std::string>;

inline double Difference(const torch::Tensor& a, const torch::Tensor& b) { return (a - b).abs().max().item<double>(); }

class MethodFixture : public ::testing::Test {
 protected:
  MethodFixture() { at::set_num_threads(1); }

  std::unique_ptr<Method> Attach(const std::vector<Values>& slots, uint64_t seed = 40) {
    std::vector<SlotOptions> options;
    for (const Values& values : slots) {
      const bool adapter = !values.contains("method.kind");
      options.push_back({adapter ? CellSettings(values) : MethodSettings(values), seed++});
    }
    return MakeMethod(nn::SitesIn(*network_), options, torch::kCPU);
  }
  // Every value away from where it starts, slot by slot the same as alone.
  static void Shake(Method& method) {
    torch::NoGradGuard no_grad;
    for (const NamedParameter& parameter : method.parameters()) {
      for (int64_t i = 0; i < parameter.count(); ++i) {
        torch::Tensor row = parameter.value[i];
        auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(parameter.first_slot + i) + 7);
        row.add_(0.05 * torch::randn(row.sizes(), generator));
      }
    }
  }
  torch::Tensor Forward(const SmallInputs& in) { return network_(in.x, in.time, in.context); }
  std::string Refusal(const Values& values) {
    try {
      Attach({values});
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  }
  BaseWeights Weights() {
    BaseWeights weights;
    for (const auto& item : network_->named_parameters()) weights.denoiser[item.key()] = item.value();
    return weights;
  }

  // Two steps of plain descent each.
  void ExpectPackTrainsAsSoloRuns(const std::vector<Values>& slots) {
    const auto inputs = [](size_t slot) { return MakeInputs(2, 60 + slot); };
    const auto step = [&](Method& method, const SmallInputs& in, int64_t number) {
      const std::vector<int64_t> draws(static_cast<size_t>(method.slots()), number);
      const TrainingPass pass(method, draws);
      const auto output = Forward(in);
      output.square().flatten(1).mean(1).view({method.slots(), -1}).mean(1).sum().backward();
      torch::NoGradGuard no_grad;
      for (const NamedParameter& parameter : method.parameters()) {
        torch::Tensor value = parameter.value;
        value.sub_(0.05 * value.grad());
        value.mutable_grad().reset();
      }
    };
    std::vector<std::map<std::string, torch::Tensor>> solo;
    for (size_t k = 0; k < slots.size(); ++k) {
      const auto method = Attach({slots[k]}, 40 + k);
      for (int64_t number = 0; number < 2; ++number) step(*method, inputs(k), number);
      solo.push_back(method->Export(0));
    }
    const auto pack = Attach(slots, 40);
    ASSERT_EQ(pack->slots(), static_cast<int64_t>(slots.size()));
    std::vector<torch::Tensor> x, time, context;
    for (size_t k = 0; k < slots.size(); ++k) {
      const SmallInputs in = inputs(k);
      x.push_back(in.x);
      time.push_back(in.time);
      context.push_back(in.context);
    }
    const SmallInputs together = {torch::cat(x), torch::cat(time), torch::cat(context)};
    for (int64_t number = 0; number < 2; ++number) step(*pack, together, number);
    for (size_t k = 0; k < slots.size(); ++k) {
      const auto found = pack->Export(static_cast<int64_t>(k));
      ASSERT_EQ(found.size(), solo[k].size()) << k;
      for (const auto& [name, value] : solo[k]) {
        // The base's products over more rows are summed in another order: rounding of float32, seen through two steps.
        EXPECT_LT(Difference(found.at(name), value), 2e-5 * std::max(1.0, value.abs().max().item<double>()))
            << k << name;
      }
    }
  }

  // Masks are functions of the draw's number, and off outside of a training pass.
  void ExpectDropsInTrainingAlone(const Values& values) {
    const SmallInputs in = MakeInputs(2, 5);
    const auto method = Attach({values});
    Shake(*method);
    const torch::Tensor without = Forward(in);
    const auto at = [&](int64_t draw) {
      const TrainingPass pass(*method, {draw});
      return Forward(in);
    };
    const torch::Tensor first = at(1);
    EXPECT_GT(Difference(first, without), 1e-3);
    EXPECT_TRUE(at(1).equal(first));
    EXPECT_GT(Difference(at(2), first), 1e-3);
    EXPECT_TRUE(Forward(in).equal(without)) << "off outside of a training pass";
  }

  // `format`: of the pictures; the kernels of worker/kernels take them channels last.
  void ExpectRecomputedGradients(const Values& values, at::MemoryFormat format) {
    SmallInputs in = MakeInputs(2, 5);
    in.x = in.x.contiguous(format);
    const auto method = Attach({values});
    Shake(*method);
    std::vector<std::vector<torch::Tensor>> gradients;
    for (const bool recompute : {false, true}) {
      const TrainingPass pass(*method, {3});
      const runtime::RecomputeScope scope(recompute);
      const auto output = runtime::Recomputed(
          [&](const auto& x, const auto& context) { return network_(x, in.time, context); }, in.x, in.context);
      output.square().mean().backward();
      gradients.emplace_back();
      for (const NamedParameter& parameter : method->parameters()) {
        gradients.back().push_back(parameter.value.grad().clone());
        parameter.value.mutable_grad().reset();
      }
    }
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      EXPECT_TRUE(gradients[0][i].equal(gradients[1][i])) << method->parameters()[i].name;
    }
  }

  void ExpectSixteenBitLayers(const Values& values) {
    const SmallInputs in = MakeInputs(2, 5);
    const auto method = Attach({values});
    Shake(*method);
    const torch::Tensor exact = Forward(in);
    const runtime::AutocastScope scope({torch::kCPU, true, torch::kBFloat16});
    const torch::Tensor rounded = Forward(in);
    EXPECT_EQ(network_->transformer->named_modules()["transformer_blocks.0.attn1.to_q"]
                  ->as<nn::LinearImpl>()
                  ->forward(torch::randn({1, 3, 64}))
                  .scalar_type(),
              torch::kBFloat16)
        << values.at("method.kind");
    // Eight bits, over some twenty layers.
    EXPECT_LT(Difference(rounded.to(torch::kFloat32), exact), 0.05 * exact.abs().max().item<double>())
        << values.at("method.kind");
  }

  void ExpectMergedWeights(const Values& values) {
    const SmallInputs in = MakeInputs(2, 5);
    BaseWeights weights = Weights();
    torch::Tensor attached;
    {
      const auto method = Attach({values});
      Shake(*method);
      attached = Forward(in);
      const auto status = method->Merge(0, weights);
      ASSERT_TRUE(status.ok()) << status;
    }
    SmallNetwork merged;
    torch::NoGradGuard no_grad;
    for (auto& item : merged->named_parameters()) item.value().copy_(weights.denoiser.at(item.key()));
    EXPECT_LT(Difference(merged(in.x, in.time, in.context), attached), 1e-4) << values.at("method.kind");
  }

  SmallNetwork network_;
};

}  // namespace loupe::worker::methods
