// The adapters against the paper's equations on diffusers' own UNet: tests/parity/adapters.py wrote initial values,
// losses, gradients and the values after ten AdamW steps, for each of the 20 legal pairs.
#include <torch/types.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/positions.h"
#include "common/settings/settings.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/parity/reference.h"
#include "worker/base/base_model.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tuning_sites.h"
#include "worker/train/adamw.h"

namespace loupe::worker {
namespace {

using nlohmann::json;

// float32 through the whole UNet, see networks_test.cc.
constexpr double kLoss = 1e-5;
// The greatest difference of a tensor's gradient beside its greatest entry: forward and backward, and sums over the
// batch. Measured: 1.5e-5.
constexpr double kGradient = 5e-5;
// Some gradients are 0 but for rounding: a bias on a channel that a GroupNorm of one channel a group sees next. So the
// scale of a tensor is at least this share of the case's greatest gradient.
constexpr double kGradientFloor = 5e-2;
// AdamW divides the gradient by its own size, so an entry whose gradient is rounding error moves by up to the learning
// rate in any direction. So: nearly all entries agree to a thousandth of what ten steps of 1e-3 can move them
// (measured: 99.7 % and more), and none is further away than ten steps reach.
constexpr double kNearlyAll = 1e-5;
constexpr double kNearlyAllShare = 0.995;
constexpr double kAny = 1e-2;

settings::Settings SettingsOf(const json& test_case) {
  auto settings = settings::Settings::Create({{"base", "b"},
                                              {"scorer", "s"},
                                              {"task.images", "i"},
                                              {"task.instance_prompt", "a sks"},
                                              {"task.class_prompt", "a"},
                                              {"budget.steps", "10"},
                                              {"method.input", test_case["input"]},
                                              {"method.output", test_case["output"]},
                                              {"method.activation", test_case["activation"]},
                                              {"method.scale", fmt::format("{}", test_case["scale"].get<double>())},
                                              {"method.width", fmt::format("{}", test_case["width"].get<int>())}});
  TORCH_CHECK(settings.ok(), settings.status().ToString());
  return *std::move(settings);
}

// The entries of `all` whose names begin with `prefix`, without it.
std::map<std::string, torch::Tensor> Under(const std::map<std::string, torch::Tensor>& all, const std::string& prefix) {
  std::map<std::string, torch::Tensor> found;
  for (auto at = all.lower_bound(prefix); at != all.end() && at->first.starts_with(prefix); ++at) {
    found[at->first.substr(prefix.size())] = at->second;
  }
  return found;
}

// A gradient [1, …] in the orientation of the file: token adapters keep their matrices as [in, out].
torch::Tensor FileOrientation(const torch::Tensor& slotted) { return slotted.dim() == 3 ? slotted[0].t() : slotted[0]; }

class AdapterParity : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    reference_ = new std::map<std::string, torch::Tensor>(ReadReference("adapters.safetensors"));
    cases_ = new json(json::parse(std::ifstream(ReferenceFolder() + "/adapters.json")));
    bases_ = new std::map<std::string, base::BaseModel>;
  }
  static void TearDownTestSuite() {
    delete reference_;
    delete cases_;
    delete bases_;
  }

  static models::UNet2DConditionModel UNetOf(const std::string& base) {
    if (!bases_->contains(base)) {
      auto loaded = base::LoadBase(ReferenceFolder() + "/" + base);
      TORCH_CHECK(loaded.ok(), loaded.status().ToString());
      bases_->emplace(base, *std::move(loaded));
    }
    return bases_->at(base).unet;
  }

  static void CompareCase(size_t index);

  static std::map<std::string, torch::Tensor>* reference_;
  static json* cases_;
  static std::map<std::string, base::BaseModel>* bases_;
};

std::map<std::string, torch::Tensor>* AdapterParity::reference_ = nullptr;
json* AdapterParity::cases_ = nullptr;
std::map<std::string, base::BaseModel>* AdapterParity::bases_ = nullptr;

void AdapterParity::CompareCase(size_t index) {
  const json& test_case = cases_->at(index);
  const auto expected = Under(*reference_, std::to_string(index) + ".");
  models::UNet2DConditionModel unet = UNetOf(test_case["base"]);
  const auto method = methods::MakeMethod(nn::SitesIn(*unet),
                                          {{SettingsOf(test_case), test_case["seed"].get<uint64_t>()}}, torch::kCPU);

  const auto initial = Under(expected, "initial.");
  const auto found_initial = method->Export(0);
  ASSERT_EQ(found_initial.size(), initial.size());
  for (const auto& [name, value] : initial) {
    ASSERT_TRUE(found_initial.contains(name)) << name;
    EXPECT_TRUE(found_initial.at(name).equal(value)) << name << ": torch.nn's initial values, bit for bit";
  }

  train::AdamW optimiser(train::ParametersOfSlot(method->parameters(), 0),
                         {.learning_rate = 1e-3, .weight_decay = 0.01});
  const auto losses = expected.at("losses");
  const auto gradients = Under(expected, "gradient.");
  double greatest_gradient = 0;
  for (const auto& [name, value] : gradients) {
    greatest_gradient = std::max(greatest_gradient, value.abs().max().item<double>());
  }
  for (int64_t step = 0; step < losses.size(0); ++step) {
    const auto output = unet(expected.at("latents")[step], expected.at("timesteps")[step], expected.at("context"));
    const auto loss = torch::mse_loss(output, expected.at("noise")[step]);
    EXPECT_TRUE(Close(loss, losses[step], step == 0 ? kLoss : 10 * kLoss)) << "step " << step;
    if (step + 1 == losses.size(0)) break;
    loss.backward();
    if (step == 0) {
      for (const methods::NamedParameter& parameter : method->parameters()) {
        EXPECT_TRUE(Close(FileOrientation(parameter.value.grad()), gradients.at(parameter.name), kGradient,
                          kGradientFloor * greatest_gradient))
            << parameter.name;
      }
    }
    optimiser.Step(1);
    for (const methods::NamedParameter& parameter : method->parameters()) parameter.value.mutable_grad().reset();
  }

  int64_t entries = 0, near = 0;
  double furthest = 0;
  const auto found_final = method->Export(0);
  for (const auto& [name, value] : Under(expected, "final.")) {
    const auto difference = (found_final.at(name) - value).abs();
    entries += value.numel();
    near += difference.le(kNearlyAll).sum().item<int64_t>();
    furthest = std::max(furthest, difference.max().item<double>());
  }
  if (std::getenv("LOUPE_PARITY_VERBOSE") != nullptr) {
    fmt::print("  final: {} of {} near, furthest {:.3g}\n", near, entries, furthest);
  }
  EXPECT_GE(static_cast<double>(near), kNearlyAllShare * static_cast<double>(entries));
  EXPECT_LE(furthest, kAny);
}

TEST_F(AdapterParity, LossEveryGradientAndTenAdamWStepsForAllLegalPairs) {
  ASSERT_EQ(cases_->size(), LegalPairs().size());
  for (size_t index = 0; index < cases_->size(); ++index) {
    const json& test_case = cases_->at(index);
    SCOPED_TRACE(test_case.dump());
    CompareCase(index);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace loupe::worker
