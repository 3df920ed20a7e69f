// Noise schedules and samplers against diffusers': tests/parity/samplers.py wrote the walks.
#include <torch/types.h>

#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/parity/reference.h"
#include "worker/sampling/sampler.h"

namespace loupe::worker {
namespace {

TEST(SamplerParity, EveryStepOfEveryWalk) {
  const std::string folder = ReferenceFolder();
  auto expected = ReadReference("samplers.safetensors");
  for (const auto& test_case : nlohmann::json::parse(std::ifstream(folder + "/samplers.json"))) {
    const auto name = test_case["name"].get<std::string>();
    SCOPED_TRACE(name);
    const auto config = diffusion::NoiseScheduleConfig::Read(folder + "/schedules/" + name + "/scheduler_config.json");
    ASSERT_TRUE(config.ok()) << config.status();
    const auto sampler = sampling::MakeSampler(
        test_case["kind"] == "ddim" ? sampling::SamplerKind::kDdim : sampling::SamplerKind::kDpmSolverPlusPlus2M,
        diffusion::NoiseSchedule(*config), test_case["steps"].get<int64_t>());
    ASSERT_TRUE(torch::tensor(sampler->timesteps()).equal(expected[name + ".timesteps"]));
    auto latents = expected["start"];
    const auto walk = expected[name + ".walk"];
    for (int64_t i = 0; i < walk.size(0); ++i) {
      latents = sampler->Step(StandIn(latents, sampler->timesteps()[static_cast<size_t>(i)]), latents);
      // diffusers computes each step's coefficients in float32, here they are float64: differences of some 1e-7 a step
      // add up, and the first steps multiply them by up to √(1/ᾱ) ≈ 15.
      ASSERT_TRUE(Close(latents, walk[i], 2e-5)) << "step " << i;
    }
    EXPECT_THROW(sampler->Step(latents, latents), c10::Error);
  }
}

TEST(SamplerParity, GuidedLoopIsTheStepsOneByOne) {
  const diffusion::NoiseSchedule schedule{diffusion::NoiseScheduleConfig{}};
  const auto start = torch::randn({2, 4, 5, 5}, torch::make_generator<at::CPUGeneratorImpl>(uint64_t{3}));
  const auto pair = [](const torch::Tensor& twice, int64_t t) {
    const auto parts = twice.chunk(2);
    return torch::cat({StandIn(parts[0], t), 0.5 * StandIn(parts[1], t)});
  };
  const auto looped = sampling::RunSampler(*sampling::MakeSampler(sampling::SamplerKind::kDdim, schedule, 10), start,
                                           sampling::WithGuidance(pair, 7.0));
  auto latents = start;
  const auto sampler = sampling::MakeSampler(sampling::SamplerKind::kDdim, schedule, 10);
  for (const int64_t t : sampler->timesteps()) {
    const auto eps = StandIn(latents, t);
    latents = sampler->Step(eps + 7.0 * (0.5 * eps - eps), latents);
  }
  EXPECT_TRUE(Close(looped, latents, 1e-6));
}

TEST(NoiseScheduleParity, NoisingAndTargets) {
  auto expected = ReadReference("samplers.safetensors");
  const auto x0 = expected["x0"], noise = expected["noise"], timesteps = expected["noise_timesteps"];
  for (const std::string name : {"scaled", "linear"}) {
    diffusion::NoiseScheduleConfig config;
    if (name == "linear")
      config = {.beta_start = 0.0001, .beta_end = 0.02, .beta_schedule = diffusion::BetaSchedule::kLinear};
    // The same float32 operations in the same order: equal but for the last bits of linspace and cumprod.
    EXPECT_TRUE(Close(diffusion::NoiseSchedule(config).alphas_cumprod(), expected[name + ".alphas_cumprod"], 1e-6));
    const auto noised = diffusion::NoiseSchedule(config).AddNoise(x0, noise, timesteps);
    EXPECT_TRUE(Close(noised, expected[name + ".noised"], 1e-6));
    EXPECT_TRUE(diffusion::NoiseSchedule(config).Target(x0, noise, timesteps).equal(noise));
    config.prediction_type = diffusion::PredictionType::kVPrediction;
    const diffusion::NoiseSchedule v(config);
    const auto velocity = v.Target(x0, noise, timesteps);
    EXPECT_TRUE(Close(velocity, expected[name + ".velocity"], 1e-6));
    // v and x_t give both x_0 and ε back.
    EXPECT_TRUE(Close(v.X0FromOutput(noised, velocity, timesteps), x0, 1e-5));
    EXPECT_TRUE(Close(v.EpsFromOutput(noised, velocity, timesteps), noise, 1e-5));
  }
}

}  // namespace
}  // namespace loupe::worker
