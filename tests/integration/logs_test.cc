// What workers log and measure, through a real coordinator over real gRPC and HTTP.
#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "clients/rpc/rpc_status.h"
#include "common/atomic_file.h"
#include "tests/testing/http_client.h"
#include "tests/testing/mini_sweep.h"

namespace loupe {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MiniSweep;
using testing::SmallSpec;

class LogsTest : public ::testing::Test {
 protected:
  absl::StatusOr<v1::ListTrialLogsResponse> Ask(const v1::ListTrialLogsRequest& request) {
    grpc::ClientContext context;
    mini_.connection()->Prepare(context);
    v1::ListTrialLogsResponse response;
    const absl::Status status =
        clients::rpc::FromGrpcStatus(mini_.trials().ListTrialLogs(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
  v1::ListTrialLogsResponse LogsOf(int trial) {
    v1::ListTrialLogsRequest request;
    request.set_parent("sweeps/logged/trials/" + std::to_string(trial));
    const auto page = Ask(request);
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? *page : v1::ListTrialLogsResponse{};
  }
  v1::SynchronizeResponse Synchronize(const v1::SynchronizeRequest& request) {
    grpc::ClientContext context;
    mini_.connection()->Prepare(context);
    v1::SynchronizeResponse response;
    const grpc::Status status = mini_.workers().Synchronize(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  // A worker by hand, which has one trial.
  v1::SynchronizeRequest TakeTrial() {
    v1::SynchronizeRequest request;
    request.set_worker("workers/by-hand");
    request.set_session_id("s1");
    request.set_slots(1);
    request.mutable_telemetry()->set_steps(10);
    const v1::SynchronizeResponse given = Synchronize(request);
    EXPECT_EQ(given.attempts_size(), 1);
    v1::AttemptReport& report = *request.add_attempts();
    *report.mutable_lease() = given.attempts(0).lease();
    report.set_phase("train");
    return request;
  }
  static void AddLine(v1::AttemptReport& report, int64_t sequence, const std::string& text) {
    v1::LogLine& line = *report.add_log();
    line.set_sequence(sequence);
    line.set_level(v1::LogLine::INFO);
    line.set_text(text);
  }
  std::string MetricsPage() {
    const std::string token = *ReadFile(mini_.data_folder() + "/data/token");
    const testing::HttpAnswer answer = testing::Fetch(
        mini_.http_port(), "GET", "/metrics", {{"Authorization", "Bearer " + token.substr(0, token.find('\n'))}});
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.body;
  }

  MiniSweep mini_;
};

std::vector<std::string> Texts(const v1::ListTrialLogsResponse& page) {
  std::vector<std::string> texts;
  for (const v1::LogLine& line : page.lines()) texts.push_back(line.text());
  return texts;
}

TEST_F(LogsTest, ATrialsLogIsThereWhenItHasEnded) {
  mini_.Create("logged", SmallSpec(2, 1));
  mini_.AddWorker("one", {.log = {"a warning"}});
  mini_.WaitUntilEnded("logged");
  for (int trial = 0; trial < 6; ++trial) {
    const v1::ListTrialLogsResponse page = LogsOf(trial);
    EXPECT_TRUE(page.ended());
    EXPECT_EQ(page.epoch(), 1);
    EXPECT_EQ(page.trial_state(), v1::Trial::SUCCEEDED);
    EXPECT_EQ(page.dropped(), 0);
    EXPECT_THAT(Texts(page), ElementsAre("taken by workers/one on fake (Loupe test)", "a warning",
                                         "train begins, 3 steps", HasSubstr("has a result")));
    EXPECT_EQ(page.lines(1).level(), v1::LogLine::WARNING);
    EXPECT_GT(page.lines(0).time().seconds(), 1'700'000'000);
  }
}

TEST_F(LogsTest, LogsOutliveARestart) {
  mini_.Create("logged", SmallSpec(2, 1));
  mini_.AddWorker("one");
  mini_.WaitUntilEnded("logged");
  const v1::ListTrialLogsResponse before = LogsOf(5);
  mini_.StopWorkers();
  mini_.RestartCoordinator();
  EXPECT_EQ(Texts(LogsOf(5)), Texts(before));
  EXPECT_GE(before.lines_size(), 3);
}

TEST_F(LogsTest, HostileLinesAreCleanedAndRepeatsIgnored) {
  mini_.Create("logged", SmallSpec(2, 1));
  v1::SynchronizeRequest request = TakeTrial();
  v1::AttemptReport& report = *request.mutable_attempts(0);
  AddLine(report, 1, "\x1b[31mred\x1b[0m\nsecond\u202e");
  AddLine(report, 1, "the same number");
  AddLine(report, -5, "a number below");
  AddLine(report, 2, std::string(100'000, 'x'));
  report.mutable_log(3)->mutable_time()->set_seconds(INT64_MAX);
  report.mutable_log(3)->set_level(static_cast<v1::LogLine::Level>(77));
  Synchronize(request);
  Synchronize(request);
  v1::ListTrialLogsRequest asked;
  asked.set_parent(report.lease().trial());
  const auto page = Ask(asked);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->lines_size(), 2);
  EXPECT_EQ(page->lines(0).text(), "\\x1b[31mred\\x1b[0m\\nsecond\\u202e");
  EXPECT_LE(page->lines(1).text().size(), 4096U);
  EXPECT_EQ(page->lines(1).level(), v1::LogLine::INFO);
  EXPECT_FALSE(page->ended());
}

TEST_F(LogsTest, LinesUnderALostLeaseAreNotTaken) {
  mini_.Create("logged", SmallSpec(2, 1));
  v1::SynchronizeRequest request = TakeTrial();
  v1::AttemptReport& report = *request.mutable_attempts(0);
  report.mutable_lease()->set_lease_token(std::string(32, '0'));
  AddLine(report, 1, "a forgery");
  EXPECT_NE(Synchronize(request).verdicts(0).status().code(), 0);
  v1::ListTrialLogsRequest asked;
  asked.set_parent(report.lease().trial());
  const auto page = Ask(asked);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->lines_size(), 0);
}

TEST_F(LogsTest, AHeldReaderHearsTheNextLine) {
  mini_.Create("logged", SmallSpec(2, 1));
  v1::SynchronizeRequest request = TakeTrial();
  v1::ListTrialLogsRequest asked;
  asked.set_parent(request.attempts(0).lease().trial());
  asked.mutable_max_wait()->set_seconds(10);
  absl::StatusOr<v1::ListTrialLogsResponse> page = absl::UnknownError("");
  std::thread reader([&] { page = Ask(asked); });
  AddLine(*request.mutable_attempts(0), 1, "news");
  Synchronize(request);
  reader.join();
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_THAT(Texts(*page), ElementsAre("news"));
}

TEST_F(LogsTest, WhatIsNotThereIsRefused) {
  mini_.Create("logged", SmallSpec(2, 1));
  v1::ListTrialLogsRequest asked;
  asked.set_parent("sweeps/logged/trials/0");
  const auto none = Ask(asked);
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->epoch(), 0);
  EXPECT_FALSE(none->ended());
  asked.set_epoch(2);
  EXPECT_EQ(Ask(asked).status().code(), absl::StatusCode::kNotFound);
  asked.set_epoch(-1);
  EXPECT_EQ(Ask(asked).status().code(), absl::StatusCode::kInvalidArgument);
  asked.set_epoch(0);
  asked.set_parent("sweeps/logged/trials/99");
  EXPECT_EQ(Ask(asked).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LogsTest, ASweepMadeAgainHasNoOldLogs) {
  for (int time = 0; time < 2; ++time) {
    mini_.Create("logged", SmallSpec(2, 1));
    EXPECT_EQ(LogsOf(0).lines_size(), 0);
    mini_.AddWorker("one");
    mini_.WaitUntilEnded("logged");
    EXPECT_GE(LogsOf(0).lines_size(), 3);
    mini_.StopWorkers();
    v1::DeleteSweepRequest gone;
    gone.set_name("sweeps/logged");
    grpc::ClientContext context;
    mini_.connection()->Prepare(context);
    v1::DeleteSweepResponse response;
    ASSERT_TRUE(mini_.sweeps().DeleteSweep(&context, gone, &response).ok());
  }
}

TEST_F(LogsTest, HttpGivesTheSameLines) {
  mini_.Create("logged", SmallSpec(2, 1));
  mini_.AddWorker("one");
  mini_.WaitUntilEnded("logged");
  const std::string token = *ReadFile(mini_.data_folder() + "/data/token");
  const testing::HttpAnswer answer = testing::Fetch(
      mini_.http_port(), "POST", "/loupe.v1.TrialService/ListTrialLogs",
      {{"Authorization", "Bearer " + token.substr(0, token.find('\n'))}, {"Content-Type", "application/json"}},
      R"({"parent": "sweeps/logged/trials/1", "tail": 1})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  v1::ListTrialLogsResponse page;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(answer.body, &page).ok()) << answer.body;
  EXPECT_THAT(Texts(page), ElementsAre(HasSubstr("has a result")));
}

TEST_F(LogsTest, WorkersShowWhatTheySayOfThemselves) {
  mini_.Create("logged", SmallSpec(2, 1));
  v1::SynchronizeRequest request = TakeTrial();
  request.mutable_attempts(0)->set_step(7);
  request.mutable_attempts(0)->set_total_steps(9);
  v1::WorkerTelemetry& telemetry = *request.mutable_telemetry();
  telemetry.set_memory_bytes(123456);
  telemetry.set_busy_cores(std::numeric_limits<double>::quiet_NaN());
  telemetry.set_step_seconds(0.25);
  for (int i = 0; i < 2; ++i) {  // twice the same: a page of metrics that names a series twice is none
    v1::GpuTelemetry& gpu = *telemetry.add_gpus();
    gpu.set_device("cuda:0 \"GPU\"\n");
    gpu.set_memory_used_bytes(5);
    gpu.set_utilization(40);
  }
  Synchronize(request);
  telemetry.set_steps(30);
  telemetry.set_step_seconds_sum(5);
  Synchronize(request);
  grpc::ClientContext context;
  mini_.connection()->Prepare(context);
  v1::ListWorkersResponse listed;
  ASSERT_TRUE(mini_.workers().ListWorkers(&context, {}, &listed).ok());
  ASSERT_EQ(listed.workers_size(), 1);
  const v1::Worker& worker = listed.workers(0);
  EXPECT_EQ(worker.telemetry().memory_bytes(), 123456);
  EXPECT_EQ(worker.telemetry().busy_cores(), 0) << "what is no number is not known";
  EXPECT_EQ(worker.telemetry().gpus(0).device(), "cuda:0 \"GPU\"\\n");
  EXPECT_EQ(worker.telemetry().gpus(0).utilization(), 1);
  ASSERT_EQ(worker.attempts_size(), 1);
  EXPECT_EQ(worker.attempts(0).phase(), "train");
  EXPECT_EQ(worker.attempts(0).step(), 7);

  const std::string page = MetricsPage();
  EXPECT_THAT(page, HasSubstr("loupe_worker_resident_memory_bytes{worker=\"by-hand\"} 123456"));
  EXPECT_THAT(page, HasSubstr("loupe_worker_step_seconds{worker=\"by-hand\"} 0.25"));
  EXPECT_THAT(page, HasSubstr("loupe_worker_gpu_utilization_ratio{worker=\"by-hand\",gpu=\"cuda:0\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("loupe_attempts_running{phase=\"train\"} 1"));
  EXPECT_THAT(page, HasSubstr("loupe_training_steps_total 20\n")) << "what it did before is not this coordinator's";
  EXPECT_THAT(page, HasSubstr("loupe_training_step_seconds_total 5\n"));
  EXPECT_EQ(page.find("memory_used_bytes{worker"), page.rfind("memory_used_bytes{worker"));
}

}  // namespace
}  // namespace loupe
