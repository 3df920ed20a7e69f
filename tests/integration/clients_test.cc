// Clients that do not read, do not send, or ask for too much: they hold their own share and no more, and another
// client's call is answered within a second. And analyses, which run apart.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "clients/rpc/rpc_status.h"
#include "common/atomic_file.h"
#include "common/error_details.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "tests/integration/process_fixture.h"
#include "tests/testing/raw_call.h"
#include "tests/testing/small_spec.h"

namespace loupe {
namespace {

using ::testing::HasSubstr;

constexpr int kAttackers = 300;
constexpr double kMostMegabytes = 512;

class ClientsTest : public ProcessTest {
 protected:
  // Another client's calls, of each kind, meanwhile.
  void ExpectOthersServed() {
    const auto other = coordinator_->Connect();
    const auto started = std::chrono::steady_clock::now();
    v1::GetSweepRequest request;
    request.set_name("sweeps/calm");
    v1::Sweep sweep;
    grpc::ClientContext context;
    other->Prepare(context, absl::Seconds(20));
    const absl::Status status =
        clients::rpc::FromGrpcStatus(v1::SweepService::NewStub(other->channel())->GetSweep(&context, request, &sweep));
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(1));
    EXPECT_LT(coordinator_->process().PeakMegabytes(), kMostMegabytes);
  }
  // Children of the coordinator that compute an analysis.
  int Analyses() const {
    int found = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream status(entry.path() / "status");
      std::string line;
      while (std::getline(status, line)) {
        if (line == fmt::format("PPid:\t{}", coordinator_->process().pid())) ++found;
      }
    }
    return found;
  }
};

TEST_F(ClientsTest, DownloadsThatNobodyReadsHoldNobodyUp) {
  StartCoordinator({}, "127.0.0.1:0", /*lease_seconds=*/60);
  Create("calm", testing::SmallSpec(2, 1));
  const v1::LeaseKey lease = Lease();
  const absl::Status uploaded = Upload(lease, std::string(16 << 20, 'y'));
  ASSERT_TRUE(uploaded.ok()) << uploaded;
  struct Download {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::DownloadArtifactResponse>> reader;
  };
  const auto attacker = coordinator_->Connect();
  std::vector<std::unique_ptr<Download>> downloads;
  v1::DownloadArtifactRequest request;
  request.set_trial(lease.trial());
  request.set_artifact_name("big.bin");
  for (int i = 0; i < kAttackers; ++i) {
    downloads.push_back(std::make_unique<Download>());
    attacker->Prepare(downloads.back()->context, absl::InfiniteDuration());
    downloads.back()->reader =
        v1::TrialService::NewStub(attacker->channel())->DownloadArtifact(&downloads.back()->context, request);
  }
  // By now each has its first messages, or was refused.
  int refused = 0;
  v1::DownloadArtifactResponse response;
  for (const auto& download : downloads) {
    if (download->reader->Read(&response)) continue;
    ++refused;
    EXPECT_EQ(download->reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, kAttackers);
  ExpectOthersServed();
  for (const auto& download : downloads) download->context.TryCancel();
}

TEST_F(ClientsTest, UploadsOfAHeaderAloneHoldNobodyUp) {
  StartCoordinator({}, "127.0.0.1:0", /*lease_seconds=*/60);
  Create("calm", testing::SmallSpec(2, 1));
  const v1::LeaseKey lease = Lease();
  struct Sending {
    grpc::ClientContext context;
    v1::UploadArtifactResponse response;
    std::unique_ptr<grpc::ClientWriter<v1::UploadArtifactRequest>> writer;
  };
  const auto attacker = coordinator_->Connect();
  std::vector<std::unique_ptr<Sending>> uploads;
  for (int i = 0; i < kAttackers; ++i) {
    uploads.push_back(std::make_unique<Sending>());
    attacker->Prepare(uploads.back()->context, absl::InfiniteDuration());
    uploads.back()->writer = v1::WorkerService::NewStub(attacker->channel())
                                 ->UploadArtifact(&uploads.back()->context, &uploads.back()->response);
    uploads.back()->writer->Write(UploadHeader(lease, std::string(1 << 20, 'x')));
  }
  ExpectOthersServed();
  for (const auto& upload : uploads) upload->context.TryCancel();
}

TEST_F(ClientsTest, AnswersThatNobodyReadsHoldNobodyUp) {
  StartCoordinator();
  Create("calm", testing::SmallSpec(2, 1));
  Create("large", testing::SmallSpec(10, 40));
  // A window of one byte: an answer of a hundred kilobytes never leaves.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  const auto channel =
      grpc::CreateCustomChannel(coordinator_->address(), grpc::InsecureChannelCredentials(), arguments);
  const std::string token =
      "Bearer " + ReadFile(coordinator_->token_file())->substr(0, ReadFile(coordinator_->token_file())->find('\n'));
  struct Call {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::ListTrialsResponse>> reader;
  };
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<Call>> calls;
  v1::ListTrialsRequest request;
  request.set_parent("sweeps/large");
  request.set_page_size(1000);
  const auto stub = v1::TrialService::NewStub(channel);
  for (int i = 0; i < kAttackers; ++i) {
    calls.push_back(std::make_unique<Call>());
    calls.back()->context.AddMetadata("authorization", token);
    // Nobody asks for its outcome: gRPC reads no more of it than its window.
    calls.back()->reader = stub->AsyncListTrials(&calls.back()->context, request, &queue);
  }
  ExpectOthersServed();
  for (const auto& call : calls) call->context.TryCancel();
  queue.Shutdown();
}

TEST_F(ClientsTest, LongFailuresAreListedInPages) {
  StartCoordinator({}, "127.0.0.1:0", /*lease_seconds=*/60);
  Create("calm", testing::SmallSpec(10, 100));
  v1::SynchronizeRequest request;
  request.set_worker("workers/w");
  request.set_session_id("s");
  request.set_slots(1000);
  const auto stub = v1::WorkerService::NewStub(connection_->channel());
  const auto synchronize = [&] {
    v1::SynchronizeResponse response;
    grpc::ClientContext context;
    connection_->Prepare(context);
    const absl::Status status = clients::rpc::FromGrpcStatus(stub->Synchronize(&context, request, &response));
    EXPECT_TRUE(status.ok()) << status;
    return response;
  };
  // A thousand at once, told in portions that fit a message.
  std::map<std::string, v1::LeaseKey> held;
  for (int i = 0; i < 20 && held.size() < 1000; ++i) {
    const v1::SynchronizeResponse answer = synchronize();
    for (const v1::DesiredAttempt& attempt : answer.attempts()) held.emplace(attempt.lease().trial(), attempt.lease());
    request.clear_attempts();
    for (const auto& [trial, lease] : held) *request.add_attempts()->mutable_lease() = lease;
  }
  ASSERT_EQ(held.size(), 1000u);
  for (v1::AttemptReport& report : *request.mutable_attempts()) {
    report.mutable_failure()->set_class_(v1::Failure::USER_ERROR);
    report.mutable_failure()->set_message(std::string(4095, 'x') + "é");
  }
  request.set_draining(true);
  // Four megabytes in one message are refused; a worker reports in portions.
  v1::SynchronizeRequest all = request;
  request.clear_attempts();
  for (int i = 0; i < all.attempts_size(); ++i) {
    *request.add_attempts() = all.attempts(i);
    if (request.attempts_size() == 250 || i + 1 == all.attempts_size()) {
      synchronize();
      request.clear_attempts();
    }
  }
  EXPECT_EQ(Trials("calm").size(), 3000u);
}

TEST_F(ClientsTest, RequestsThatAreTooLargeAreRefusedByName) {
  StartCoordinator();
  v1::CreateSweepRequest request;
  request.set_sweep_id("calm");
  *request.mutable_spec() = testing::SmallSpec(2, 1);
  request.set_request_id(std::string(5000, 'r'));
  (*request.mutable_spec()->mutable_settings())["task.prompt"] = std::string(100000, 'p');
  grpc::ClientContext context;
  connection_->Prepare(context);
  v1::CreateSweepResponse response;
  const absl::Status status =
      connection_->Check(v1::SweepService::NewStub(connection_->channel())->CreateSweep(&context, request, &response));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  std::string fields;
  for (const FieldViolation& violation : FieldViolationsOf(status))
    fields += violation.field + ": " + violation.description + "\n";
  EXPECT_THAT(fields, HasSubstr("request_id: 5000 bytes, at most 1024 are allowed"));
  EXPECT_THAT(fields, HasSubstr("100000 bytes, at most 16384 are allowed"));
}

// An analysis may do whatever it likes: the coordinator goes on.
class AnalysisTest : public ClientsTest {
 protected:
  void Run(const std::string& id) {
    Create(id, testing::SmallSpec(4, 3));
    const std::unique_ptr<ChildProcess> worker = StartWorker(0, 0);
    ASSERT_TRUE(WaitUntilCompleted(id, 60));
  }
  absl::Status Anova(const std::string& id, absl::Duration deadline = absl::Seconds(30)) {
    v1::GetAnovaRequest request;
    request.set_name("sweeps/" + id);
    grpc::ClientContext context;
    connection_->Prepare(context, deadline);
    v1::GetAnovaResponse anova;
    return clients::rpc::FromGrpcStatus(
        v1::AnalysisService::NewStub(connection_->channel())->GetAnova(&context, request, &anova));
  }
};

// Sums of such scores overflow: the coordinator once ended by it.
TEST_F(AnalysisTest, ScoresOfAnySizeAreAnswered) {
  StartCoordinator({}, "127.0.0.1:0", /*lease_seconds=*/60);
  Create("calm", testing::SmallSpec(4, 3));
  v1::SynchronizeRequest request;
  request.set_worker("workers/w");
  request.set_session_id("s");
  request.set_slots(1000);
  const auto stub = v1::WorkerService::NewStub(connection_->channel());
  for (int round = 0; round < 2; ++round) {
    v1::SynchronizeResponse response;
    grpc::ClientContext context;
    connection_->Prepare(context);
    const absl::Status status = clients::rpc::FromGrpcStatus(stub->Synchronize(&context, request, &response));
    ASSERT_TRUE(status.ok()) << status;
    for (int i = 0; round == 0 && i < response.attempts_size(); ++i) {
      v1::AttemptReport* report = request.add_attempts();
      *report->mutable_lease() = response.attempts(i).lease();
      (*report->mutable_success()->mutable_scores())["clip_i"] = i % 2 == 0 ? 1e308 : -1e308;
      (*report->mutable_success()->mutable_scores())["clip_i_base"] = 1e308;
    }
  }
  ASSERT_EQ(Get("calm")->state(), v1::Sweep::COMPLETED);
  const absl::Status status = Anova("calm");
  EXPECT_TRUE(status.ok() || absl::IsFailedPrecondition(status)) << status;
  for (const auto format : {v1::RenderReportRequest::TEXT, v1::RenderReportRequest::JSON, v1::RenderReportRequest::CSV,
                            v1::RenderReportRequest::HTML}) {
    v1::RenderReportRequest render;
    render.set_name("sweeps/calm");
    render.set_format(format);
    grpc::ClientContext context;
    connection_->Prepare(context);
    const auto reader = v1::AnalysisService::NewStub(connection_->channel())->RenderReport(&context, render);
    v1::RenderReportResponse chunk;
    std::string report;
    while (reader->Read(&chunk)) report += chunk.chunk();
    const absl::Status rendered = clients::rpc::FromGrpcStatus(reader->Finish());
    EXPECT_TRUE(rendered.ok()) << rendered;
    EXPECT_FALSE(report.empty());
  }
  ExpectOthersServed();
}

TEST_F(AnalysisTest, EndsWithTheDeadlineAndWithSigterm) {
  StartCoordinator();
  Run("calm");
  ASSERT_TRUE(Anova("calm").ok());
  // The answer is kept: no process is needed for it.
  EXPECT_EQ(Analyses(), 0);
  ASSERT_TRUE(Anova("calm").ok());
  const auto started = std::chrono::steady_clock::now();
  coordinator_->Kill(SIGTERM);
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(10));
}

}  // namespace
}  // namespace loupe
