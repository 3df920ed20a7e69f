// What a page asks for: the numbers are those that the other services give, over all trials.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "clients/rpc/rpc_status.h"
#include "loupe/v1/view.grpc.pb.h"
#include "tests/testing/mini_sweep.h"

namespace loupe {
namespace {

using testing::FakeExecutorOptions;
using testing::MiniSweep;
using testing::SmallSpec;

template <typename T>
std::vector<T> Column(const std::string& bytes) {
  static_assert(std::endian::native == std::endian::little);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

class ViewTest : public ::testing::Test {
 protected:
  void Finish(const FakeExecutorOptions& options = {}) {
    mini_.Create("seen", SmallSpec(4, 2));
    mini_.AddWorker("one", options);
    mini_.AddWorker("two", options);
    mini_.WaitUntilEnded("seen");
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> Ask(grpc::Status (v1::ViewService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                             Response*),
                               const Request& request) {
    grpc::ClientContext context;
    mini_.connection()->Prepare(context);
    Response response;
    const absl::Status status = clients::rpc::FromGrpcStatus((Stub().*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
  v1::ViewService::Stub& Stub() {
    if (stub_ == nullptr) stub_ = v1::ViewService::NewStub(mini_.connection()->channel());
    return *stub_;
  }

  MiniSweep mini_;
  std::unique_ptr<v1::ViewService::Stub> stub_;
};

TEST_F(ViewTest, TableHasEveryTrialOnce) {
  Finish();
  v1::GetTrialTableRequest request;
  request.set_parent("sweeps/seen");
  request.set_page_size(7);
  std::vector<double> scores;
  std::vector<std::vector<uint32_t>> levels(2);
  std::vector<v1::GetTrialTableResponse> pages;
  do {
    const auto page = Ask(&v1::ViewService::Stub::GetTrialTable, request);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_EQ(page->first_index(), static_cast<int64_t>(scores.size()));
    EXPECT_EQ(page->total(), 24);
    EXPECT_EQ(page->primary_score(), "clip_i");
    ASSERT_EQ(page->factors_size(), 2);
    for (int factor = 0; factor < 2; ++factor) {
      for (const uint32_t level : Column<uint32_t>(page->factors(factor).column()))
        levels[static_cast<size_t>(factor)].push_back(level);
    }
    ASSERT_EQ(page->scores_size(), 1);
    for (const double score : Column<double>(page->scores(0).column())) scores.push_back(score);
    for (const char state : page->states()) EXPECT_EQ(state, v1::Trial::SUCCEEDED);
    for (const float seconds : Column<float>(page->seconds())) EXPECT_GE(seconds, 0);
    request.set_page_token(page->next_page_token());
    pages.push_back(*page);
  } while (!request.page_token().empty());
  ASSERT_EQ(scores.size(), 24U);
  for (const v1::Trial& trial : mini_.Trials("seen")) {
    const auto index = static_cast<size_t>(trial.cell_index() + trial.replicate() * int64_t{12});
    EXPECT_EQ(scores[index], trial.scores().at("clip_i"));
    for (int factor = 0; factor < 2; ++factor) {
      const auto& column = pages[0].factors(factor);
      EXPECT_EQ(column.levels(static_cast<int>(levels[static_cast<size_t>(factor)][index])),
                trial.cell().at(column.name()));
    }
  }
}

TEST_F(ViewTest, TablePagesBeginAnywhere) {
  Finish();
  v1::GetTrialTableRequest request;
  request.set_parent("sweeps/seen");
  request.set_first_index(20);
  const auto last = Ask(&v1::ViewService::Stub::GetTrialTable, request);
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_EQ(last->first_index(), 20);
  EXPECT_EQ(last->rows(), 4);
  EXPECT_EQ(Column<uint32_t>(last->cells()), (std::vector<uint32_t>{8, 9, 10, 11}));
  EXPECT_EQ(Column<uint32_t>(last->replicates()), (std::vector<uint32_t>{1, 1, 1, 1}));
  EXPECT_EQ(last->next_page_token(), "");
  request.set_first_index(24);
  const auto behind = Ask(&v1::ViewService::Stub::GetTrialTable, request);
  ASSERT_TRUE(behind.ok()) << behind.status();
  EXPECT_EQ(behind->rows(), 0);
  request.set_first_index(-1);
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(&v1::ViewService::Stub::GetTrialTable, request).status()));
}

TEST_F(ViewTest, TableKeepsWhatIsMissing) {
  mini_.Create("seen", SmallSpec(2, 1));
  v1::GetTrialTableRequest request;
  request.set_parent("sweeps/seen");
  const auto page = Ask(&v1::ViewService::Stub::GetTrialTable, request);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->rows(), 6);
  EXPECT_EQ(page->scores_size(), 0);
  for (const float seconds : Column<float>(page->seconds())) EXPECT_TRUE(std::isnan(seconds));
}

TEST_F(ViewTest, DigestSumsUpAllResults) {
  Finish();
  v1::GetSweepDigestRequest request;
  request.set_name("sweeps/seen");
  const auto digest = Ask(&v1::ViewService::Stub::GetSweepDigest, request);
  ASSERT_TRUE(digest.ok()) << digest.status();
  double sum = 0, best = -1;
  std::string best_trial;
  for (const v1::Trial& trial : mini_.Trials("seen")) {
    const double score = trial.scores().at("clip_i");
    sum += score;
    if (score > best) {
      best = score;
      best_trial = trial.name();
    }
  }
  EXPECT_EQ(digest->score(), "clip_i");
  EXPECT_FALSE(digest->smaller_is_better());
  EXPECT_EQ(digest->results(), 24);
  EXPECT_EQ(digest->best(), best);
  EXPECT_EQ(digest->best_trial(), best_trial);
  EXPECT_NEAR(digest->mean(), sum / 24, 1e-12);  // SQLite adds in another order
  EXPECT_EQ(digest->accepted_hour(), 24);
}

TEST_F(ViewTest, CurvesAreThinnedAndChosenEvenly) {
  Finish({.points = 500});
  v1::GetCurvesRequest request;
  request.set_parent("sweeps/seen");
  request.set_max_points(50);
  request.set_max_curves(5);
  const auto curves = Ask(&v1::ViewService::Stub::GetCurves, request);
  ASSERT_TRUE(curves.ok()) << curves.status();
  EXPECT_EQ(curves->metric(), "loss");
  EXPECT_EQ(curves->candidates(), 24);
  ASSERT_EQ(curves->curves_size(), 5);
  EXPECT_EQ(curves->curves(0).trial(), 0);
  EXPECT_EQ(curves->curves(4).trial(), 23);
  for (const auto& curve : curves->curves()) {
    EXPECT_EQ(curve.points(), 500);
    EXPECT_EQ(curve.means_size(), 50);
    EXPECT_EQ(curve.lows_size(), 50);
  }
}

TEST_F(ViewTest, AttemptsComeLatestFirstInPages) {
  Finish({.failure_rate = 0.3});
  v1::ListAttemptsRequest request;
  request.set_parent("sweeps/seen");
  request.set_page_size(5);
  std::vector<v1::Attempt> all;
  do {
    const auto page = Ask(&v1::ViewService::Stub::ListAttempts, request);
    ASSERT_TRUE(page.ok()) << page.status();
    all.insert(all.end(), page->attempts().begin(), page->attempts().end());
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  int64_t expected = 0;
  for (const v1::Trial& trial : mini_.Trials("seen")) {
    expected += trial.attempts();
    v1::GetTrialDetailsRequest details_request;
    details_request.set_name(trial.name());
    const auto details = Ask(&v1::ViewService::Stub::GetTrialDetails, details_request);
    ASSERT_TRUE(details.ok()) << details.status();
    EXPECT_EQ(details->attempts_size(), trial.attempts());
    EXPECT_EQ(details->settings().at("method.input"), trial.cell().at("input"));
    EXPECT_EQ(details->sweep_seed(), 7U);
  }
  EXPECT_EQ(static_cast<int64_t>(all.size()), expected);
  EXPECT_GT(expected, 24);
  const auto start = [](const v1::Attempt& attempt) {
    return std::pair(attempt.start_time().seconds(), attempt.start_time().nanos());
  };
  EXPECT_TRUE(
      std::is_sorted(all.rbegin(), all.rend(), [&](const auto& a, const auto& b) { return start(a) < start(b); }));
  EXPECT_EQ(std::count_if(all.begin(), all.end(), [](const auto& a) { return a.outcome() == v1::Attempt::SUCCEEDED; }),
            std::count_if(all.begin(), all.end(), [](const auto& a) { return !a.has_failure(); }));
}

TEST_F(ViewTest, ReportIsTheReportsJson) {
  Finish();
  v1::RenderReportRequest request;
  request.set_name("sweeps/seen");
  request.set_format(v1::RenderReportRequest::HTML);  // ignored
  const auto report = Ask(&v1::ViewService::Stub::GetReport, request);
  ASSERT_TRUE(report.ok()) << report.status();
  const auto json = nlohmann::json::parse(report->json());
  EXPECT_EQ(json.at("trials").at("succeeded"), 24);
  EXPECT_EQ(json.at("terms").size(), 3U);  // replicate, input, scale
  EXPECT_EQ(report->left_out_size(), 0);
}

// The fake's result says that its training took just what it was told to.
TEST_F(ViewTest, DryRunsKnowTheTimeOfLikeTrials) {
  const auto dry_run = [this](const v1::SweepSpec& spec) {
    v1::CreateSweepRequest request;
    *request.mutable_spec() = spec;
    request.set_validate_only(true);
    grpc::ClientContext context;
    mini_.connection()->Prepare(context);
    v1::CreateSweepResponse response;
    const absl::Status status = clients::rpc::FromGrpcStatus(mini_.sweeps().CreateSweep(&context, request, &response));
    EXPECT_TRUE(status.ok()) << status;
    return response.plan();
  };
  v1::SweepSpec spec = SmallSpec(4, 2);
  EXPECT_THAT(dry_run(spec).estimate_basis(), ::testing::HasSubstr("no finished trial of this kind"));
  EXPECT_FALSE(dry_run(spec).has_estimated_duration());
  Finish({.seconds = 0.02});
  v1::PlanSummary plan = dry_run(spec);
  EXPECT_NEAR(plan.estimated_trial_seconds(), 24 * 0.02, 1e-9) << plan.estimate_basis();
  // Two workers with a place each.
  EXPECT_NEAR(plan.estimated_duration().nanos() * 1e-9, 12 * 0.02, 1e-6);
  EXPECT_EQ(plan.estimated_gpus(), 0);
  EXPECT_THAT(plan.estimate_basis(), ::testing::HasSubstr("median of 24 finished trials of seen"));

  (*spec.mutable_settings())["budget.steps"] = "15";
  plan = dry_run(spec);
  EXPECT_NEAR(plan.estimated_trial_seconds(), 24 * 0.06, 1e-9);
  EXPECT_THAT(plan.estimate_basis(), ::testing::HasSubstr("carried to these steps"));

  (*spec.mutable_settings())["budget.batch"] = "8";
  plan = dry_run(spec);
  EXPECT_EQ(plan.estimated_trial_seconds(), 0);
  EXPECT_FALSE(plan.has_estimated_duration());
  EXPECT_THAT(plan.estimate_basis(), ::testing::HasSubstr("Unknown: no finished trial of this kind"));
}

TEST_F(ViewTest, WhatIsNotThereIsNotFound) {
  v1::GetTrialTableRequest table;
  table.set_parent("sweeps/none");
  EXPECT_TRUE(absl::IsNotFound(Ask(&v1::ViewService::Stub::GetTrialTable, table).status()));
  v1::GetTrialDetailsRequest details;
  details.set_name("sweeps/none/trials/0");
  EXPECT_TRUE(absl::IsNotFound(Ask(&v1::ViewService::Stub::GetTrialDetails, details).status()));
  details.set_name("nonsense");
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(&v1::ViewService::Stub::GetTrialDetails, details).status()));
}

}  // namespace
}  // namespace loupe
