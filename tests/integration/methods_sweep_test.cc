// A sweep over methods, from its file to its trials.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "coordinator/plan/plan.h"
#include "coordinator/plan/sweep_file.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "tests/testing/mini_sweep.h"

namespace loupe {
namespace {

constexpr char kThreeMethods[] = R"(name: three-methods
base: /base
scorer: /scorer
task: {images: /images, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
methods:
  - {kind: adapter, width: 8, positions: ["CA_out -> FFN_in", "SA_in -> FFN_in"]}
  - {kind: lora, rank: [4, 16]}
  - {kind: bitfit}
replicates: 2
budget: {steps: 5}
seed: 7
)";

TEST(MethodsSweepTest, EveryTrialHasItsMethodsCell) {
  const auto file = coordinator::plan::ParseSweepFile(kThreeMethods, "f");
  ASSERT_TRUE(file.ok()) << file.status();
  const auto plan = coordinator::plan::Plan::Create(file->spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  testing::MiniSweep mini;
  // As a client sends it that leaves the rest to the coordinator.
  mini.Create("three-methods", coordinator::plan_proto::SpecToProto(file->spec));
  testing::FakeExecutorOptions options;
  options.abilities.methods = {"adapter", "lora", "bitfit"};
  mini.AddWorker("a", options);
  EXPECT_EQ(mini.WaitUntilEnded("three-methods").counts().succeeded(), 10);
  for (const v1::Trial& trial : mini.Trials("three-methods")) {
    const std::map<std::string, std::string> cell(trial.cell().begin(), trial.cell().end());
    EXPECT_EQ(cell, plan->CellLevels(trial.cell_index())) << trial.name();
  }
}

}  // namespace
}  // namespace loupe
