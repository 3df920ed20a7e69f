// The pictures of a pack's slots, sampled in one pass, beside each slot's alone: every method, on networks whose two
// halves of guidance are passes of their own and on those where they are one.
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <array>

#include "tests/worker/methods/small_network.h"
#include "worker/base/base_model.h"
#include "worker/executor/attached_adapter.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/random_stream.h"
#include "worker/sampling/picture_sampler.h"

namespace loupe::worker::executor {
namespace {

class SharedSamplingTest : public ::testing::TestWithParam<const char*> {
 protected:
  SharedSamplingTest() : base_(*base::LoadBase(GetParam())) { at::set_num_threads(1); }

  static std::vector<methods::SlotOptions> Slots(const std::string& kind, size_t count) {
    std::map<std::string, std::string> values = {{"method.kind", kind}};
    if (kind == "adapter") {
      values["method.input"] = "SA_in";
      values["method.output"] = "FFN_in";
      values["method.width"] = "4";
    }
    if (kind == "textual-inversion") values["task.instance_prompt"] = "a photo of sks";
    std::vector<methods::SlotOptions> slots;
    for (size_t i = 0; i < count; ++i) slots.push_back({methods::MethodSettings(values), 3 + i});
    return slots;
  }
  // Far enough from their initial values for each slot to make pictures of its own.
  static void Shake(methods::Method& method, uint64_t seed) {
    torch::NoGradGuard no_grad;
    runtime::RandomStream stream(seed);
    for (const methods::NamedParameter& parameter : method.parameters()) {
      parameter.value.detach() += 0.02 * stream.Normal(parameter.value.sizes());
    }
  }

  base::BaseModel base_;
};

TEST_P(SharedSamplingTest, EachSlotsPicturesAreItsOwn) {
  // A DiT's prompts are its classes' numbers.
  const bool classes = std::string(GetParam()).ends_with("dit");
  const std::array<std::string, 2> prompts = {classes ? "1" : "a photo of sks", classes ? "2" : "a red heart"};
  sampling::SampleOptions options;
  options.steps = 2;
  options.guidance = 3;
  options.batch = 1;
  std::vector<sampling::SlotPictures> pictures;
  for (uint64_t slot = 0; slot < 2; ++slot) {
    pictures.push_back({{prompts[slot]}, runtime::RandomStream(slot).Normal(sampling::NoiseShape(base_, 2))});
  }
  int tried = 0;
  for (const methods::MethodTraits& traits : methods::Methods()) {
    if (!traits.packable || !traits.trains) continue;
    SCOPED_TRACE(traits.name);
    const std::vector<methods::SlotOptions> slots = Slots(traits.name, 2);
    std::vector<std::map<std::string, torch::Tensor>> values;
    std::vector<torch::Tensor> alone;
    try {
      for (size_t i = 0; i < slots.size(); ++i) {
        const auto method = methods::MakeMethod(SitesOf(base_), {slots[i]}, torch::kCPU);
        Shake(*method, 20 + i);
        values.push_back(method->Export(0));
        alone.push_back(sampling::SampleLatents(base_, pictures[i].prompts, pictures[i].noise, options));
      }
    } catch (const c10::Error&) {
      continue;  // not for this base
    }
    ++tried;
    for (const auto operators : {methods::SlotOperators::kOwn, methods::SlotOperators::kJoined}) {
      const auto method = methods::MakeMethod(SitesOf(base_), slots, torch::kCPU, operators);
      for (size_t i = 0; i < slots.size(); ++i) method->Import(static_cast<int64_t>(i), values[i]);
      const std::vector<torch::Tensor> together = sampling::SampleSlots(base_, pictures, options);
      ASSERT_EQ(together.size(), slots.size());
      for (size_t i = 0; i < slots.size(); ++i) {
        const double size = alone[i].abs().max().item<double>();
        // Rounding, 4.5e-5 of the largest number at the most: in the first of two steps guidance triples it, and the
        // sampler divides it by α = 0.07.
        EXPECT_LE((together[i] - alone[i]).abs().max().item<double>(), 2e-4 * size) << "slot " << i;
        // And not another slot's.
        EXPECT_GE((together[i] - alone[1 - i]).abs().max().item<double>(), 1e-2 * size) << "slot " << i;
      }
    }
  }
  EXPECT_GE(tried, 8);
}

// On a GPU guidance's halves are one pass, in which what comes before the condition is computed for one of them.
TEST_P(SharedSamplingTest, HalvesInOnePassAreThoseOfTwo) {
  torch::NoGradGuard no_grad;
  using Halves = sampling::ConditionedDenoiser::Halves;
  const bool classes = std::string(GetParam()).ends_with("dit");
  for (const int64_t slots : {1, 2}) {
    const auto noise = runtime::RandomStream(5).Normal(sampling::NoiseShape(base_, 2 * slots));
    const auto text = [&](const std::string& prompt) { return base::RowsOf(base_.EncodeText({prompt}), 2 * slots); };
    const auto rows = torch::cat({text(""), text(classes ? "1" : "a red heart")});
    const auto latents = torch::cat({noise, noise});
    sampling::ConditionedDenoiser passes(*base_.denoiser, rows, true, slots, Halves::kPasses),
        one(*base_.denoiser, rows, true, slots, Halves::kOnePass);
    const auto expected = passes(latents, 500), found = one(latents, 500);
    EXPECT_LE((found - expected).abs().max().item<double>(), 1e-4 * expected.abs().max().item<double>());
    EXPECT_GE((found.narrow(0, 0, 2 * slots) - found.narrow(0, 2 * slots, 2 * slots)).abs().max().item<double>(), 1e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(Bases, SharedSamplingTest,
                         ::testing::Values("configs/bases/emoji-sd", "configs/bases/emoji-dit"),
                         [](const auto& info) { return std::string(info.param).ends_with("dit") ? "DiT" : "UNet"; });

}  // namespace
}  // namespace loupe::worker::executor
