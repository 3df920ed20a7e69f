#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "tests/coordinator/scheduler/scheduler_fixture.h"

namespace loupe::coordinator::scheduler {
namespace {

// Of a search, with two workers: the second trial's curve is the worse one when it comes to the first rung.
class SearchTest : public SchedulerTest {
 protected:
  SearchTest() {
    SweepNeeds needs;
    needs.search = SearchRules{.curve = "loss", .smaller_is_better = true, .reduction = 2, .min_steps = 10};
    SweepRecord sweep;
    sweep.id = "search";
    sweep.cells = 4;
    sweep.replicates = 1;
    EXPECT_TRUE(scheduler_
                    .OnCreate(
                        sweep, [](int64_t) { return "{}"; }, "", "", now_, effects_, "",
                        std::make_shared<const SweepNeeds>(std::move(needs)))
                    .ok());
    first_ = Lease("a");
    second_ = Lease("b");
  }
  // The step after which the worker is told to end; `from`: of the points that it has not told yet.
  int64_t Show(const std::string& worker, const DesiredAttempt& attempt, int64_t from, int64_t to, double value) {
    SyncRequest request = Request(worker);
    AttemptReport report = ReportOf(attempt);
    for (int64_t step = from; step <= to; ++step) report.points.push_back({"loss", step, value});
    report.point_sequence = to;
    report.step = to;
    request.attempts.push_back(std::move(report));
    return Sync(request).desired.at(0).finish_after_step;
  }
  int64_t Notes() const {
    return std::count_if(effects_.begin(), effects_.end(),
                         [](const Effect& effect) { return std::holds_alternative<NoteRung>(effect); });
  }
  DesiredAttempt first_, second_;
};

TEST_F(SearchTest, AWorseTrialIsToldToEnd) {
  EXPECT_EQ(Show("a", first_, 1, 12, 1.0), 0);
  EXPECT_EQ(Show("b", second_, 1, 9, 2.0), 0);
  EXPECT_EQ(Show("b", second_, 10, 10, 2.0), 10);
  EXPECT_EQ(Show("b", second_, 10, 10, 2.0), 10) << "until it has ended";
  EXPECT_EQ(Notes(), 2);
}

TEST_F(SearchTest, ItsNextAttemptIsToldToo) {
  Show("a", first_, 1, 10, 1.0);
  Show("b", second_, 1, 10, 2.0);
  Tell("b", second_, Failure{FailureClass::kLostWorker, "a rank went"});
  const SyncAnswer again = Sync(Request("b"));
  ASSERT_EQ(again.desired.size(), 1u);
  EXPECT_EQ(again.desired[0].trial, second_.trial);
  EXPECT_EQ(again.desired[0].finish_after_step, 10);
}

TEST_F(SearchTest, AStudyEndsNobody) {
  Create("study");
  const DesiredAttempt third = Lease("c"), fourth = Lease("d");
  for (const auto& [worker, attempt] : {std::pair("c", third), std::pair("d", fourth)}) {
    if (attempt.sweep_id != "study") continue;
    EXPECT_EQ(Show(worker, attempt, 1, 40, 9.0), 0);
  }
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
