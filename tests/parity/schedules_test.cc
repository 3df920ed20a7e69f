// Every scheduler file of diffusers, one setting changed at a time: the same walk or a refusal by name (schedules.py).
#include <torch/types.h>

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/parity/reference.h"
#include "worker/io/json_config.h"
#include "worker/sampling/sampler.h"

namespace loupe::worker {
namespace {

using ::testing::HasSubstr;

::testing::AssertionResult WalksAs(const diffusion::NoiseScheduleConfig& config, const std::string& kind,
                                   const torch::Tensor& start, const torch::Tensor& timesteps,
                                   const torch::Tensor& end) {
  const auto sampler =
      sampling::MakeSampler(kind == "ddim" ? sampling::SamplerKind::kDdim : sampling::SamplerKind::kDpmSolverPlusPlus2M,
                            diffusion::NoiseSchedule(config), timesteps.size(0));
  if (!torch::tensor(sampler->timesteps()).equal(timesteps)) return ::testing::AssertionFailure() << "other timesteps";
  // Coefficients in float32 there and in float64 here; a walk from ᾱ near 0 multiplies their differences by 1/√ᾱ.
  return Close(sampling::RunSampler(*sampler, start, StandIn), end, 2e-4);
}

TEST(SchedulerFiles, SameWalkOrRefusalByName) {
  auto expected = ReadReference("scheduler_files.safetensors");
  const std::set<std::string> unseen_by_diffusers = {"predict_epsilon"};
  int walked = 0, refused = 0;
  const auto cases = io::ReadJsonFile(ReferenceFolder() + "/scheduler_files.json");
  ASSERT_TRUE(cases.ok()) << cases.status();
  for (const auto& test_case : *cases) {
    const auto name = test_case["name"].get<std::string>(), key = test_case["key"].get<std::string>();
    SCOPED_TRACE(name + ", " + key + ": " + test_case["config"].dump());
    const auto config = diffusion::NoiseScheduleConfig::Read(ReferenceFolder() + "/scheduler_files/" + name + ".json");
    if (!config.ok()) {
      ++refused;
      EXPECT_NE(key, "") << config.status();  // with its defaults each one is read
      EXPECT_THAT(std::string(config.status().message()), HasSubstr("'" + key + "'"));
      continue;
    }
    ++walked;
    EXPECT_TRUE(!test_case["walks"].empty() || unseen_by_diffusers.contains(key));
    for (const std::string kind : test_case["walks"]) {
      const std::string walk = name + "." + kind;
      EXPECT_TRUE(WalksAs(*config, kind, expected["start"], expected[walk + ".timesteps"], expected[walk])) << kind;
    }
  }
  // Refusing everything would not do.
  EXPECT_GT(walked, 500);
  EXPECT_GT(refused, 200);
}

}  // namespace
}  // namespace loupe::worker
