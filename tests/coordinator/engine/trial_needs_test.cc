// Which trials of a plan can be trained together, and what they ask of a worker.
#include "coordinator/engine/trial_needs.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

namespace loupe::coordinator::engine {
namespace {

scheduler::SweepNeeds NeedsOfFactors(std::vector<plan::SweepFactor> factors) {
  plan::SweepSpec spec;
  spec.settings = {{"base", "/b"},
                   {"scorer", "/s"},
                   {"task.images", "/i"},
                   {"task.instance_prompt", "a photo of sks"},
                   {"task.class_prompt", "a photo of cat face"},
                   {"method.width", "8"},
                   {"method.input", "CA_out"},
                   {"method.output", "FFN_in"},
                   {"budget.steps", "5"}};
  for (const plan::SweepFactor& factor : factors) spec.settings.erase(factor.key);
  spec.factors = std::move(factors);
  const absl::StatusOr<plan::Plan> plan = plan::Plan::Create(spec);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *NeedsOf(*plan);
}

// Packs of all cells.
std::multiset<int32_t> PacksOf(const scheduler::SweepNeeds& needs, int64_t cells) {
  std::multiset<int32_t> packs;
  for (int64_t cell = 0; cell < cells; ++cell) packs.insert(needs.pack_of(needs.class_of(cell)));
  return packs;
}

TEST(TrialNeedsTest, CellsOfOneMethodFitEachOther) {
  const scheduler::SweepNeeds needs = NeedsOfFactors({{"method.input", {"SA_in", "CA_out"}},
                                                      {"method.activation", {"relu", "silu"}},
                                                      {"train.learning_rate", {"0.001", "0.01"}}});
  EXPECT_EQ(needs.classes.size(), 1u);
  EXPECT_EQ(PacksOf(needs, 8), (std::multiset<int32_t>{0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(TrialNeedsTest, OtherBudgetsAreOtherPacks) {
  const scheduler::SweepNeeds needs =
      NeedsOfFactors({{"method.activation", {"relu", "silu"}}, {"budget.steps", {"5", "10", "20"}}});
  EXPECT_EQ(PacksOf(needs, 6), (std::multiset<int32_t>{0, 0, 1, 1, 2, 2}));
}

TEST(TrialNeedsTest, BeyondTheMostKindsTrialsAreAlone) {
  std::vector<std::string> steps;
  for (int i = 1; i <= 300; ++i) steps.push_back(std::to_string(i));
  const scheduler::SweepNeeds needs = NeedsOfFactors({{"budget.steps", steps}});
  EXPECT_EQ(needs.classes.size(), 256u);
  EXPECT_EQ(PacksOf(needs, 300).count(scheduler::SweepNeeds::kAlone), 45u)
      << "the last kind's, and the 44 that found no place";
}

TEST(TrialNeedsTest, TrialsOnSeveralDevicesAreAlone) {
  const scheduler::SweepNeeds needs = NeedsOfFactors({{"train.devices", {"1", "2"}}, {"method.scale", {"1", "2"}}});
  EXPECT_EQ(PacksOf(needs, 4),
            (std::multiset<int32_t>{scheduler::SweepNeeds::kAlone, scheduler::SweepNeeds::kAlone, 0, 0}));
  EXPECT_EQ(needs.classes[needs.class_of(3)].devices, 2);
  EXPECT_EQ(needs.classes[needs.class_of(3)].settings_version, 3) << "older workers do not know the setting";
  const scheduler::SweepNeeds all = NeedsOfFactors({{"method.scale", {"1", "2"}}});
  EXPECT_EQ(all.classes[0].devices, 1);
  EXPECT_FALSE(all.search.has_value());
}

}  // namespace
}  // namespace loupe::coordinator::engine
