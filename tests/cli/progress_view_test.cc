#include "cli/progress_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/time_text.h"

namespace loupe::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

v1::WatchSweepResponse State(int64_t done, int64_t total, v1::Sweep::State state = v1::Sweep::ACTIVE) {
  v1::WatchSweepResponse response;
  response.mutable_sweep()->set_name("sweeps/quickstart");
  response.mutable_sweep()->set_state(state);
  response.mutable_sweep()->mutable_counts()->set_total(total);
  response.mutable_sweep()->mutable_counts()->set_succeeded(done);
  return response;
}

void AddRunning(v1::WatchSweepResponse& response, int trial) {
  v1::RunningAttempt& attempt = *response.add_running();
  attempt.set_trial("sweeps/quickstart/trials/" + std::to_string(trial));
  attempt.set_worker("workers/local-1");
  attempt.set_phase("train");
  attempt.set_step(30);
  attempt.set_total_steps(50);
  (*attempt.mutable_metrics())["loss"] = 0.08123;
  (*attempt.mutable_cell())["input"] = "SA_in";
}

TEST(ProgressViewTest, RateAndTimeLeftComeFromTheTrialsThatEnded) {
  ProgressView view;
  view.Update(State(2, 24), absl::Seconds(100));
  EXPECT_EQ(view.TrialsPerSecond(), 0);
  EXPECT_LT(view.SecondsLeft(), 0);
  view.Update(State(2, 24), absl::Seconds(110));
  view.Update(State(4, 24), absl::Seconds(120));
  EXPECT_NEAR(view.TrialsPerSecond(), 0.1, 1e-12);
  EXPECT_NEAR(view.SecondsLeft(), 200, 1e-9);
}

TEST(ProgressViewTest, RateForgetsWhatIsLongAgo) {
  ProgressView view;
  view.Update(State(0, 1000), absl::ZeroDuration());
  view.Update(State(1, 1000), absl::Seconds(1000));
  view.Update(State(2, 1000), absl::Seconds(2000));
  view.Update(State(102, 1000), absl::Seconds(2100));
  view.Update(State(202, 1000), absl::Seconds(2200));
  // Of what lies before the window only the last, at 1000 s, is kept.
  EXPECT_NEAR(view.TrialsPerSecond(), (202.0 - 1) / (2200 - 1000), 1e-9);
}

TEST(ProgressViewTest, CoordinatorsOwnEstimateWins) {
  ProgressView view;
  v1::WatchSweepResponse state = State(2, 24);
  state.mutable_sweep()->mutable_estimated_time_left()->set_seconds(77);
  view.Update(state, absl::ZeroDuration());
  EXPECT_EQ(view.SecondsLeft(), 77);
  EXPECT_THAT(view.PlainLine(), HasSubstr("1 min 17 s left"));
}

TEST(ProgressViewTest, RetriedTrialsStartTheRateAnew) {
  ProgressView view;
  view.Update(State(5, 10), absl::Seconds(1));
  view.Update(State(10, 10), absl::Seconds(2));
  view.Update(State(7, 10), absl::Seconds(3));
  EXPECT_EQ(view.TrialsPerSecond(), 0);
}

TEST(ProgressViewTest, PlainLineSaysWhatMatters) {
  ProgressView view;
  v1::WatchSweepResponse state = State(6, 24);
  state.mutable_sweep()->mutable_counts()->set_failed(1);
  state.mutable_sweep()->mutable_counts()->set_running(2);
  AddRunning(state, 7);
  view.Update(state, absl::ZeroDuration());
  EXPECT_THAT(view.PlainLine(), AllOf(HasSubstr("quickstart: 7 of 24 done (29 %), 2 running, 1 failed"),
                                      HasSubstr("trial 7 train 30/50: loss 0.0812")));
}

TEST(ProgressViewTest, PacksAreShown) {
  ProgressView view;
  v1::WatchSweepResponse state = State(6, 24);
  state.mutable_sweep()->mutable_counts()->set_running(4);
  for (const int trial : {7, 8, 9, 10}) AddRunning(state, trial);
  state.mutable_running(3)->set_worker("workers/local-2");
  view.Update(state, absl::ZeroDuration());
  EXPECT_THAT(view.PlainLine(), HasSubstr("4 running in packs of 3"));
}

// A worker may hold trials that it does not train yet, and some of its pack may be another sweep's.
TEST(ProgressViewTest, PacksAreAsTheirWorkersSay) {
  ProgressView view;
  v1::WatchSweepResponse state = State(6, 24);
  state.mutable_sweep()->mutable_counts()->set_running(3);
  for (const int trial : {7, 8, 9}) AddRunning(state, trial);
  for (v1::RunningAttempt& attempt : *state.mutable_running()) attempt.set_pack(1);
  view.Update(state, absl::ZeroDuration());
  EXPECT_THAT(view.PlainLine(), HasSubstr("3 running; trial"));
  EXPECT_THAT(view.PlainLine(), HasSubstr("trial 7 train 30/50: loss"));
  state.mutable_running(0)->set_pack(4);
  view.Update(state, absl::Seconds(1));
  EXPECT_THAT(view.PlainLine(), HasSubstr("3 running in packs of 4; trial"));
  EXPECT_THAT(view.PlainLine(), HasSubstr("trial 7 train 30/50, pack of 4: loss"));
}

TEST(TimeTextTest, UnitsFollowTheSize) {
  EXPECT_EQ(TimeText(0.42), "0.4 s");
  EXPECT_EQ(TimeText(25.4), "25 s");
  EXPECT_EQ(TimeText(59.7), "1 min 00 s");
  EXPECT_EQ(TimeText(250), "4 min 10 s");
  EXPECT_EQ(TimeText(3600 * 3 + 300), "3 h 05 min");
  EXPECT_EQ(TimeText(86400 * 12 + 3600 * 4), "12 d 4 h");
  EXPECT_EQ(TimeText(-1), "unknown");
}

}  // namespace
}  // namespace loupe::cli
