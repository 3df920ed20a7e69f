// Sweeps of one design that ran apart, as one.
#include "analysis/report/results_union.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "analysis/report/report.h"
#include "analysis/report/sweep_analysis.h"
#include "analysis/report/untuned_base.h"

namespace loupe::analysis::report {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

// Two inputs on each of three bases, two replicates; `bases` says which of the three this sweep has.
SweepResults OnBases(const std::string& id, const std::vector<std::string>& bases) {
  const std::vector<std::string> all = {"first", "today", "new"};
  SweepResults sweep;
  sweep.sweep_id = "sweeps/" + id;
  sweep.state = "COMPLETED";
  sweep.replicates = 2;
  sweep.primary_score = "clip_i";
  sweep.provenance.seed = 7;
  sweep.provenance.settings = {{"budget.steps", "50"}};
  SweepFactor world{.name = "world", .key = "world", .levels = bases};
  for (const std::string& base : bases) world.settings.push_back({{"base", "bases/" + base}});
  sweep.factors = {world, {.name = "input", .key = "method.input", .levels = {"SA_in", "CA_out"}}};
  for (int32_t level = 0; level < static_cast<int32_t>(bases.size()); ++level) {
    const auto number = static_cast<double>(std::find(all.begin(), all.end(), bases[level]) - all.begin());
    for (int32_t input = 0; input < 2; ++input) {
      for (int32_t replicate = 0; replicate < 2; ++replicate) {
        TrialRecord trial{.index = static_cast<int64_t>(sweep.trials.size()),
                          .cell_index = 2 * level + input,
                          .levels = {level, input},
                          .replicate = replicate,
                          .state = TrialState::kSucceeded};
        trial.scores = {{"clip_i", 0.5 + 0.1 * number + 0.02 * input * (number - 1) + 0.003 * replicate * input},
                        {"clip_i_base", 0.1 * number}};
        sweep.trials.push_back(std::move(trial));
      }
    }
  }
  sweep.baseline_scores = BaselineScores(sweep.trials);
  return sweep;
}

TEST(ResultsUnionTest, SweepsOnABaseEachAreOneWithTheBaseAsAFactor) {
  const auto united = UniteResults({OnBases("a", {"first"}), OnBases("b", {"today"}), OnBases("c", {"new"})});
  ASSERT_TRUE(united.ok()) << united.status();
  const SweepResults whole = OnBases("whole", {"first", "today", "new"});
  EXPECT_EQ(united->factors[0].levels, whole.factors[0].levels);
  EXPECT_EQ(AllSettings(*united), AllSettings(whole));
  EXPECT_EQ(RenderCsv(*united, {}).value(), RenderCsv(whole, {}).value());
}

// Each base has a score of its own before it is tuned; the first sweep's alone would be a third of the truth.
TEST(ResultsUnionTest, TheUntunedScoreIsOfAllTrials) {
  const auto united = UniteResults({OnBases("a", {"first"}), OnBases("b", {"today", "new"})});
  ASSERT_TRUE(united.ok()) << united.status();
  EXPECT_NEAR(united->baseline_scores.at("clip_i"), 0.1, 1e-12);
  const auto untuned = FindUntunedBase(*united, "clip_i");
  ASSERT_TRUE(untuned.has_value());
  EXPECT_EQ(untuned->factor, "world");
  EXPECT_THAT(untuned->by_level, ElementsAre(Pair("first", 0), Pair("today", 0.1), Pair("new", 0.2)));
}

TEST(ResultsUnionTest, ALevelOfBothIsTheSameInBoth) {
  SweepResults other = OnBases("b", {"today", "new"});
  other.factors[0].settings[0]["base"] = "elsewhere";
  EXPECT_THAT(UniteResults({OnBases("a", {"first", "today"}), other}).status().message(),
              AllOf(HasSubstr("sweeps/a and sweeps/b"),
                    HasSubstr("for the level 'today' of world 'base' is bases/today and elsewhere")));
  other.factors[0].settings[0] = {{"scorer", "a scorer"}};
  EXPECT_THAT(UniteResults({OnBases("a", {"today"}), other}).status().message(),
              HasSubstr("only the first sets for the level 'today' of world 'base'"));
}

TEST(ResultsUnionTest, WhatAllCellsHaveMustBeTheSame) {
  SweepResults other = OnBases("b", {"new"});
  other.provenance.settings["budget.steps"] = "60";
  EXPECT_THAT(UniteResults({OnBases("a", {"first"}), other}).status().message(),
              HasSubstr("'budget.steps' is 50 and 60"));
}

}  // namespace
}  // namespace loupe::analysis::report
