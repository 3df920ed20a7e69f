#include "cli/watch_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "cli/heat_map.h"
#include "cli/live_screen.h"
#include "tests/testing/fake_clock.h"

namespace loupe::cli {
namespace {

using ::testing::HasSubstr;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

template <typename Bits>
void Append(std::string& column, Bits bits) {
  for (size_t i = 0; i < sizeof(Bits); ++i, bits >>= 8) column += static_cast<char>(bits & 0xff);
}

// A page of ViewService.GetTrialTable: factors with their levels, and rows of (cell, level of each factor, score).
struct Page {
  v1::GetTrialTableResponse table;

  explicit Page(const std::vector<std::pair<std::string, std::vector<std::string>>>& factors) {
    for (const auto& [name, levels] : factors) {
      auto* factor = table.add_factors();
      factor->set_name(name);
      for (const std::string& level : levels) factor->add_levels(level);
    }
    table.set_primary_score("clip_i");
    auto* score = table.add_scores();
    score->set_name("clip_i");
    score->set_title("CLIP-I");
  }

  Page& Row(uint32_t cell, const std::vector<uint32_t>& levels, double score) {
    table.set_rows(table.rows() + 1);
    Append(*table.mutable_cells(), cell);
    for (size_t i = 0; i < levels.size(); ++i)
      Append(*table.mutable_factors(static_cast<int>(i))->mutable_column(), levels[i]);
    Append(*table.mutable_scores(0)->mutable_column(), std::bit_cast<uint64_t>(score));
    return *this;
  }
};

const std::vector<std::pair<std::string, std::vector<std::string>>> kFactors = {
    {"scale", {"1", "4"}}, {"input", {"SA_in", "CA_in", "FFN_in"}}, {"output", {"FFN_out", "Trans_out"}}};

// Six cells with two trials each, but for (FFN_in, Trans_out), which is no legal pair.
Page SomeScores() {
  Page page(kFactors);
  page.Row(0, {0, 0, 0}, 0.50).Row(0, {0, 0, 0}, 0.52).Row(1, {0, 0, 1}, 0.61).Row(1, {0, 0, 1}, 0.63);
  page.Row(2, {0, 1, 0}, 0.70).Row(2, {0, 1, 0}, 0.71).Row(3, {0, 1, 1}, 0.80).Row(3, {0, 1, 1}, kNone);
  page.Row(4, {0, 2, 0}, 0.90).Row(4, {0, 2, 0}, 0.94).Row(5, {1, 0, 0}, 0.58).Row(5, {1, 0, 0}, 0.60);
  return page;
}

v1::RunningAttempt Running(const std::string& worker, int trial, int64_t step) {
  v1::RunningAttempt attempt;
  attempt.set_trial("sweeps/cats/trials/" + std::to_string(trial));
  attempt.set_worker("workers/" + worker);
  attempt.set_phase("train");
  attempt.set_step(step);
  attempt.set_total_steps(50);
  attempt.mutable_elapsed()->set_seconds(75);
  (*attempt.mutable_metrics())["loss"] = 0.08123;
  (*attempt.mutable_cell())["input"] = "SA_in";
  return attempt;
}

// A sweep that has run for a while: 12 of 24 have ended, one of them without a result.
class WatchScreenTest : public ::testing::Test {
 protected:
  WatchScreenTest() {
    state_.mutable_sweep()->set_name("sweeps/cats");
    state_.mutable_sweep()->set_state(v1::Sweep::ACTIVE);
    v1::TrialCounts& counts = *state_.mutable_sweep()->mutable_counts();
    counts.set_total(24);
    counts.set_succeeded(5);
    Note();
    clock_.Advance(absl::Minutes(2));
    counts.set_succeeded(11);
    counts.set_failed(1);
    counts.set_running(3);
    counts.set_queued(9);
    *state_.add_running() = Running("gpu-1", 7, 30);
    *state_.add_running() = Running("gpu-2", 9, 5);
    *state_.add_running() = Running("gpu-1", 8, 25);
    Note();
    EXPECT_TRUE(scores_.Add(SomeScores().table).ok());
  }

  void Note() { progress_.Update(state_, clock_.MonotonicNow()); }

  std::string Screen(int width, int height, const std::string& notice = "") {
    return "\n" + PlainText(WatchScreen({progress_, &scores_, notice}, width, height));
  }

  testing::FakeClock clock_;
  v1::WatchSweepResponse state_;
  ProgressView progress_;
  SweepScores scores_;
};

TEST_F(WatchScreenTest, EverythingOnAnOrdinaryTerminal) {
  EXPECT_EQ(Screen(80, 24), R"(
cats  12 of 24 trials (50 %)                            3.5/min  3 min 26 s left
████████████████████████████████████▚▚▚▚▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
█ 11 succeeded  ▚ 1 failed  ▒ 3 running  ░ 9 queued

CLIP-I by input (down) and output                             ██ 0.920  ▁▁ 0.550
          FFN_out    Trans_out
  SA_in   ▁▁ 0.550   ▂▂ 0.620
  CA_in   ▄▄ 0.705   ▆▆ 0.800
  FFN_in  ██ 0.920   ··

Best cells
  0.9200 ± 0.028 of 2     scale=1 input=FFN_in output=FFN_out
  0.8000                  scale=1 input=CA_in output=Trans_out
  0.7050 ± 0.0071 of 2    scale=1 input=CA_in output=FFN_out
  0.6200 ± 0.014 of 2     scale=1 input=SA_in output=Trans_out
  0.5900 ± 0.014 of 2     scale=4 input=SA_in output=FFN_out

Running: 3 in packs of 2
  gpu-1         7  train   ██████░░░░ 30/50     1 min 15 s  loss 0.0812  input=…
                8  train   █████░░░░░ 25/50     1 min 15 s  loss 0.0812  input=…
  gpu-2         9  train   █░░░░░░░░░ 5/50      1 min 15 s  loss 0.0812  input=…


q leaves, the sweep goes on
)");
}

TEST_F(WatchScreenTest, SmallTerminalKeepsTheHead) {
  EXPECT_EQ(Screen(40, 8, "lost the coordinator"), R"(
cats  12 of 24 trials (50 %)
██████████████████▚▚▒▒▒▒▒▒░░░░░░░░░░░░░░
█ 11 succeeded  ▚ 1 failed  ▒ 3 running…

Running: 3 in packs of 2
  gpu-1         7  train   ██████░░░░ 3…
  and 2 more
lost the coordinator  q leaves, the swe…
)");
  EXPECT_EQ(Screen(30, 1), "\ncats  12 of 24 trials (50 %)\n");
}

TEST_F(WatchScreenTest, NoSizeIsOverrun) {
  for (int trial = 10; trial < 100; ++trial) *state_.add_running() = Running("gpu-3", trial, 1);
  state_.mutable_sweep()->add_waiting()->set_reason("method lora, and no connected worker runs it");
  Note();
  for (const int width : {1, 10, 40, 80, 200}) {
    for (const int height : {1, 2, 5, 9, 24, 200}) {
      const std::vector<StyledLine> lines = WatchScreen({progress_, &scores_, "notice"}, width, height);
      EXPECT_EQ(lines.size(), static_cast<size_t>(height));
      for (const StyledLine& line : lines) EXPECT_LE(line.width(), width);
    }
  }
  EXPECT_THAT(Screen(120, 24), HasSubstr("more"));
}

TEST_F(WatchScreenTest, WhatIsLeftOutIsCounted) {
  state_.set_running_left_out(997);
  Note();
  EXPECT_THAT(Screen(80, 24), HasSubstr("Running: 1000 in packs of 2\n"));
  EXPECT_THAT(Screen(80, 40), HasSubstr("  and 997 more\n"));
}

TEST_F(WatchScreenTest, AttemptsSayTheirPack) {
  state_.mutable_running(0)->set_pack(3);
  Note();
  EXPECT_THAT(Screen(120, 24), HasSubstr("30/50     1 min 15 s  loss 0.0812  pack of 3  input=SA_in\n"));
  EXPECT_THAT(Screen(120, 24), HasSubstr("25/50     1 min 15 s  loss 0.0812  input=SA_in\n"));
  EXPECT_THAT(Screen(120, 24), HasSubstr("Running: 3 in packs of 3\n"));
}

TEST_F(WatchScreenTest, WithoutScoresWhatRunsHasTheRoom) {
  EXPECT_EQ("\n" + PlainText(WatchScreen({progress_, nullptr, ""}, 80, 12)), R"(
cats  12 of 24 trials (50 %)                            3.5/min  3 min 26 s left
████████████████████████████████████▚▚▚▚▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
█ 11 succeeded  ▚ 1 failed  ▒ 3 running  ░ 9 queued

Running: 3 in packs of 2
  gpu-1         7  train   ██████░░░░ 30/50     1 min 15 s  loss 0.0812  input=…
                8  train   █████░░░░░ 25/50     1 min 15 s  loss 0.0812  input=…
  gpu-2         9  train   █░░░░░░░░░ 5/50      1 min 15 s  loss 0.0812  input=…



q leaves, the sweep goes on
)");
}

TEST_F(WatchScreenTest, EndedSweepHasNoTimeLeft) {
  v1::TrialCounts& counts = *state_.mutable_sweep()->mutable_counts();
  counts.set_succeeded(24);
  counts.set_failed(0);
  counts.set_running(0);
  counts.set_queued(0);
  state_.mutable_sweep()->set_state(v1::Sweep::COMPLETED);
  state_.clear_running();
  Note();
  EXPECT_EQ("\n" + PlainText(WatchSummary({progress_, nullptr, ""}, 60)), R"(
cats  24 of 24 trials (100 %)  COMPLETED             9.5/min
████████████████████████████████████████████████████████████
█ 24 succeeded
)");
}

TEST_F(WatchScreenTest, TextOfOthersIsNotObeyed) {
  state_.mutable_running(0)->set_phase("\x1b[2Jtrain");
  Note();
  for (const StyledLine& line : WatchScreen({progress_, &scores_, ""}, 200, 30))
    EXPECT_EQ(line.Plain().find('\x1b'), std::string::npos);
  EXPECT_THAT(Screen(200, 30), HasSubstr("\\x1b[2Jtrain"));
}

TEST(HeatMapTest, ColoursGoFromTheWorstToTheBest) {
  SweepScores scores;
  ASSERT_TRUE(scores.Add(Page({{"rate", {"low", "high"}}}).Row(0, {0}, 1).Row(1, {1}, 2).table).ok());
  std::string text;
  for (const StyledLine& line : HeatMap(scores.Grid(), {.title = "CLIP-I", .width = 40, .height = 9}))
    text += line.Coloured() + "\n";
  EXPECT_EQ(text,
            "\x1B[1mCLIP-I\x1B[m by rate          \x1B[38;5;226m██\x1B[m 2.00  \x1B[38;5;53m▁▁\x1B[m 1.00\n"
            "  low   \x1B[38;5;53m▁▁\x1B[m 1.00\n"
            "  high  \x1B[38;5;226m██\x1B[m 2.00\n");
}

TEST(HeatMapTest, SmallerIsBetterTurnsTheScale) {
  SweepScores scores;
  ASSERT_TRUE(scores.Add(Page({{"rate", {"low", "high"}}}).Row(0, {0}, 1).Row(1, {1}, 2).table).ok());
  EXPECT_EQ(
      "\n" + PlainText(HeatMap(scores.Grid(), {.title = "FID", .smaller_is_better = true, .width = 40, .height = 9})),
      R"(
FID by rate             ██ 1.00  ▁▁ 2.00
  low   ██ 1.00
  high  ▁▁ 2.00
)");
}

TEST(HeatMapTest, NarrowTerminalLeavesTheNumbersOut) {
  SweepScores scores;
  ASSERT_TRUE(scores.Add(SomeScores().table).ok());
  EXPECT_EQ("\n" + PlainText(HeatMap(scores.Grid(), {.title = "CLIP-I", .width = 24, .height = 9})), R"(
CLIP-I by input (down) …
          FFN_o… Trans…
  SA_in   ▁▁     ▂▂
  CA_in   ▄▄     ▆▆
  FFN_in  ██     ··
)");
  EXPECT_EQ("\n" + PlainText(HeatMap(scores.Grid(), {.title = "CLIP-I", .width = 13, .height = 4})), R"(
CLIP-I by in…
          FF
  SA_in   ▁▁
  2 more
)");
}

TEST(SweepScoresTest, MeansAreOfAllPages) {
  SweepScores scores;
  ASSERT_TRUE(scores.Add(Page(kFactors).Row(0, {0, 0, 0}, 1).table).ok());
  ASSERT_TRUE(scores.Add(Page(kFactors).Row(0, {0, 0, 0}, 2).Row(1, {1, 0, 0}, 6).table).ok());
  EXPECT_EQ(scores.results(), 3);
  EXPECT_EQ(scores.Grid().at(0, 0).Mean(), 3);  // (1 + 2 + 6)/3, over both scales
  const std::vector<ScoredCell> best = scores.Best(5);
  ASSERT_EQ(best.size(), 2u);
  EXPECT_EQ(best[0].text, "scale=4 input=SA_in output=FFN_out");
  EXPECT_EQ(best[1].sum.Mean(), 1.5);
  EXPECT_NEAR(best[1].sum.Deviation(), std::sqrt(0.5), 1e-12);
}

TEST(SweepScoresTest, LevelsOfOtherMethodsAreInNoRow) {
  SweepScores scores;
  const uint32_t none = 4294967295;
  ASSERT_TRUE(
      scores.Add(Page({{"method", {"a", "b"}}, {"rank", {"4", "8"}}}).Row(0, {0, none}, 1).Row(1, {1, 1}, 2).table)
          .ok());
  EXPECT_EQ(scores.Grid().at(0, 0).count, 0);
  EXPECT_EQ(scores.Grid().at(1, 1).count, 1);
  EXPECT_EQ(scores.Best(2)[1].text, "method=a");
}

TEST(SweepScoresTest, DamagedTableIsRefused) {
  Page page(kFactors);
  page.Row(0, {0, 0, 0}, 1);
  page.table.mutable_factors(1)->mutable_column()->pop_back();
  EXPECT_EQ(SweepScores().Add(page.table).code(), absl::StatusCode::kInternal);
}

TEST(TerminalKindTest, DumbAndMissingTerminalsGetLines) {
  EXPECT_TRUE(KindOfTerminal(true, "xterm-256color", nullptr).live);
  EXPECT_FALSE(KindOfTerminal(true, "dumb", nullptr).live);
  EXPECT_FALSE(KindOfTerminal(true, nullptr, nullptr).live);
  EXPECT_FALSE(KindOfTerminal(false, "xterm", nullptr).live);
}

TEST(TerminalKindTest, NoColorTakesTheColoursAlone) {
  EXPECT_TRUE(KindOfTerminal(true, "xterm", "").colours);
  const TerminalKind kind = KindOfTerminal(true, "xterm", "1");
  EXPECT_TRUE(kind.live);
  EXPECT_FALSE(kind.colours);
}

}  // namespace
}  // namespace loupe::cli
