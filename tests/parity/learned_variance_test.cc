// A predicted variance and its bound against diffusers and torch.distributions: tests/parity/learned_variance.py wrote
// them.
#include "worker/diffusion/learned_variance.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/parity/reference.h"

namespace loupe::worker {
namespace {

class LearnedVarianceParity : public ::testing::TestWithParam<std::string> {
 protected:
  static diffusion::LearnedVariance Make() {
    diffusion::NoiseScheduleConfig config;
    if (GetParam() == "linear")
      config = {.beta_start = 0.0001, .beta_end = 0.02, .beta_schedule = diffusion::BetaSchedule::kLinear};
    return diffusion::LearnedVariance(diffusion::NoiseSchedule(config));
  }
  torch::Tensor Expected(const std::string& name) { return reference_.at(GetParam() + "." + name); }
  torch::Tensor Shared(const std::string& name) { return reference_.at(name); }

  std::map<std::string, torch::Tensor> reference_ = ReadReference("learned_variance.safetensors");
};

TEST_P(LearnedVarianceParity, LiesBetweenThePosteriorsAndBetaAsDiffusersHasIt) {
  const auto t = Shared("timesteps"), later = t.gt(0).nonzero().flatten();
  const auto found = Make().LogVariance(Shared("output"), t).index_select(0, later);
  // diffusers has β_t = 1 − ᾱ_t/ᾱ_{t−1} in float32: rounding of 6e-8 beside β ≥ 1e-4 is 6e-4 of it, and of its
  // logarithm's absolute value.
  const auto expected = Expected("log_variance").to(torch::kFloat64);
  EXPECT_TRUE(Close(found - expected, torch::zeros_like(found), 6e-4, 1.0));
}

TEST_P(LearnedVarianceParity, BoundAndItsGradient) {
  const auto output = Shared("output").requires_grad_();
  const auto guess = Expected("guess").requires_grad_();
  const auto terms = Make().BoundTerms(Shared("x0"), Expected("xt"), guess, output, Shared("timesteps"));
  // float64 on both sides, from the same float32 β.
  EXPECT_TRUE(Close(terms, Expected("terms"), 1e-9));
  (terms * torch::arange(1, 8, torch::kFloat64)).sum().backward();
  for (int64_t row = 0; row < output.size(0); ++row) {
    // The gradient is handed back in the network's float32.
    EXPECT_TRUE(Close(output.grad()[row], Expected("gradient")[row], 1e-6)) << "row " << row;
  }
  EXPECT_FALSE(guess.grad().defined()) << "the mean counts as given";
}

INSTANTIATE_TEST_SUITE_P(Schedules, LearnedVarianceParity, ::testing::Values("scaled", "linear"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace loupe::worker
