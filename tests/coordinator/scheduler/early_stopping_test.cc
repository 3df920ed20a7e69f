#include "coordinator/scheduler/early_stopping.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace loupe::coordinator::scheduler {
namespace {

constexpr int64_t kCells = 100;

SearchRules RulesOf(int64_t reduction, int64_t min_steps, bool smaller_is_better = true) {
  return {.curve = "loss", .smaller_is_better = smaller_is_better, .reduction = reduction, .min_steps = min_steps};
}

bool Stops(EarlyStopping& early, int64_t trial, int64_t step, double value) {
  const std::optional<RungNote> note = early.OnPoint(trial, step, value);
  return note && note->stops;
}

TEST(EarlyStoppingTest, TheBestThirdGoesOn) {
  EarlyStopping early(RulesOf(3, 10), kCells);
  // Fewer than three: nothing to compare with.
  EXPECT_FALSE(Stops(early, 0, 10, 5));
  EXPECT_FALSE(Stops(early, 1, 10, 9));
  EXPECT_TRUE(Stops(early, 2, 10, 6)) << "second of three";
  EXPECT_FALSE(Stops(early, 3, 10, 4)) << "first of four";
  EXPECT_TRUE(Stops(early, 4, 10, 5.5));
  EXPECT_FALSE(Stops(early, 5, 10, 5)) << "as good as the second of six";
  EXPECT_EQ(early.FinishAfter(2), 10);
  EXPECT_EQ(early.FinishAfter(1), 0) << "was never judged";
}

TEST(EarlyStoppingTest, RungsAreReductionsApart) {
  EarlyStopping early(RulesOf(2, 10), kCells);
  EXPECT_FALSE(early.OnPoint(0, 9, 1).has_value());
  EXPECT_EQ(early.OnPoint(0, 10, 1)->rung, 10);
  EXPECT_FALSE(early.OnPoint(0, 19, 1).has_value());
  EXPECT_EQ(early.OnPoint(0, 21, 1)->rung, 20);
  EXPECT_EQ(early.OnPoint(0, 95, 1)->rung, 80) << "40 was passed over: its curve has no point there";
  EXPECT_FALSE(early.OnPoint(0, 50, 1).has_value()) << "a late point says nothing";
}

TEST(EarlyStoppingTest, ARepeatedPointChangesNothing) {
  EarlyStopping once(RulesOf(2, 1), kCells), often(RulesOf(2, 1), kCells);
  for (int64_t trial = 0; trial < 12; ++trial) {
    const double value = std::fmod(static_cast<double>(trial) * 7.3, 5.0);
    const bool stops = Stops(once, trial, 1, value);
    EXPECT_EQ(Stops(often, trial, 1, value), stops);
    EXPECT_FALSE(often.OnPoint(trial, 1, value).has_value());
    EXPECT_FALSE(often.OnPoint(trial, 1, -1).has_value());
  }
  for (int64_t trial = 0; trial < 12; ++trial) EXPECT_EQ(often.FinishAfter(trial), once.FinishAfter(trial));
}

TEST(EarlyStoppingTest, ReplicatesAreComparedAmongThemselves) {
  EarlyStopping early(RulesOf(2, 1), kCells);
  EXPECT_FALSE(Stops(early, 0, 1, 1));
  EXPECT_FALSE(Stops(early, kCells, 1, 9)) << "the first of its replicate";
  EXPECT_TRUE(Stops(early, 1, 1, 2));
  EXPECT_FALSE(Stops(early, kCells + 1, 1, 8));
}

TEST(EarlyStoppingTest, LargerIsBetterWhereItIsSaid) {
  EarlyStopping early(RulesOf(2, 1, /*smaller_is_better=*/false), kCells);
  EXPECT_FALSE(Stops(early, 0, 1, 1));
  EXPECT_FALSE(Stops(early, 1, 1, 2));
  EXPECT_TRUE(Stops(early, 2, 1, 0.5));
}

TEST(EarlyStoppingTest, WhatIsNoNumberIsTheWorst) {
  for (const bool smaller : {true, false}) {
    EarlyStopping early(RulesOf(2, 1, smaller), kCells);
    EXPECT_FALSE(Stops(early, 0, 1, 3));
    EXPECT_TRUE(Stops(early, 1, 1, std::numeric_limits<double>::quiet_NaN()));
    EXPECT_TRUE(Stops(early, 2, 1, -std::numeric_limits<double>::infinity()));
  }
}

// A restart in the middle, from what was noted, in another order: the decisions after it are those without it.
TEST(EarlyStoppingTest, RestoredNotesGiveTheSameDecisions) {
  EarlyStopping whole(RulesOf(3, 2), kCells);
  std::vector<RungNote> notes;
  const auto value = [](int64_t trial, int64_t step) {
    return std::fmod(static_cast<double>(trial * 37 + step * 11), 13.0);
  };
  const auto feed = [&](EarlyStopping& early, int64_t from, int64_t to, bool keep) {
    std::vector<bool> stops;
    for (int64_t step = 1; step <= 20; ++step) {
      for (int64_t trial = from; trial < to; ++trial) {
        const auto note = early.OnPoint(trial, step, value(trial, step));
        if (note && keep) notes.push_back(*note);
        stops.push_back(note && note->stops);
      }
    }
    return stops;
  };
  feed(whole, 0, 15, true);
  EarlyStopping restarted(RulesOf(3, 2), kCells);
  for (auto note = notes.rbegin(); note != notes.rend(); ++note) restarted.Restore(*note);
  for (int64_t trial = 0; trial < 15; ++trial) EXPECT_EQ(restarted.FinishAfter(trial), whole.FinishAfter(trial));
  EXPECT_EQ(feed(restarted, 10, 40, false), feed(whole, 10, 40, false));
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
