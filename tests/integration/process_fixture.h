// A coordinator and fake workers as processes, and what tests ask of them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "clients/rpc/connection.h"
#include "clients/rpc/rpc_status.h"
#include "common/sha256.h"
#include "fmt/format.h"
#include "loupe/v1/analysis.grpc.pb.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "tests/testing/coordinator_process.h"
#include "tests/testing/fake_executor.h"
#include "tests/testing/temp_folder.h"

namespace loupe {

using testing::ChildProcess;

class ProcessTest : public ::testing::Test {
 protected:
  // `before`: a program that starts the coordinator, with its arguments.
  void StartCoordinator(std::vector<std::string> before = {}, const std::string& listen = "127.0.0.1:0",
                        double lease_seconds = 2) {
    before.push_back(LOUPE_COORDINATOR);
    coordinator_ = std::make_unique<testing::CoordinatorProcess>(
        std::move(before), data_,
        std::vector<std::string>{"--lease-seconds", fmt::format("{}", lease_seconds), "--log-level", "off"}, listen);
    connection_ = coordinator_->connection();
  }

  // `address`: of something between it and the coordinator; `more`: further arguments.
  std::unique_ptr<ChildProcess> StartWorker(int number, double seconds, const std::string& address = "",
                                            const std::vector<std::string>& more = {}) {
    std::vector<std::string> command = {LOUPE_FAKE_WORKER,
                                        "--address",
                                        address.empty() ? coordinator_->address() : address,
                                        "--token-file",
                                        coordinator_->token_file(),
                                        "--name",
                                        fmt::format("w{}", number),
                                        "--data",
                                        folder_ / fmt::format("worker-{}", number),
                                        "--seconds",
                                        fmt::format("{}", seconds),
                                        "--log-level",
                                        "off"};
    command.insert(command.end(), more.begin(), more.end());
    return std::make_unique<ChildProcess>(command);
  }

  static void Pause(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

  void Create(const std::string& id, const v1::SweepSpec& spec) {
    v1::CreateSweepRequest request;
    request.set_sweep_id(id);
    *request.mutable_spec() = spec;
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    connection_->Prepare(context);
    v1::CreateSweepResponse response;
    const absl::Status status = connection_->Check(
        v1::SweepService::NewStub(connection_->channel())->CreateSweep(&context, request, &response));
    ASSERT_TRUE(status.ok()) << status;
  }

  absl::StatusOr<v1::Sweep> Get(const std::string& id) {
    v1::GetSweepRequest request;
    request.set_name("sweeps/" + id);
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    connection_->Prepare(context);
    v1::Sweep sweep;
    const absl::Status status =
        connection_->Check(v1::SweepService::NewStub(connection_->channel())->GetSweep(&context, request, &sweep));
    if (!status.ok()) return status;
    return sweep;
  }

  // Whether it ends completed within the time.
  bool WaitUntilCompleted(const std::string& id, double seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end) {
      if (const auto sweep = Get(id); sweep.ok() && sweep->state() == v1::Sweep::COMPLETED) return true;
      Pause(0.1);
    }
    return false;
  }

  std::vector<v1::Trial> Trials(const std::string& id) {
    v1::ListTrialsRequest request;
    request.set_parent("sweeps/" + id);
    request.set_page_size(1000);
    std::vector<v1::Trial> all;
    do {
      grpc::ClientContext context;
      connection_->Prepare(context);
      v1::ListTrialsResponse response;
      const absl::Status status = connection_->Check(
          v1::TrialService::NewStub(connection_->channel())->ListTrials(&context, request, &response));
      EXPECT_TRUE(status.ok()) << status;
      all.insert(all.end(), response.trials().begin(), response.trials().end());
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return all;
  }

  // The F table as bytes: two sweeps with the same scores have the same.
  std::string AnovaOf(const std::string& id) {
    v1::GetAnovaRequest request;
    request.set_name("sweeps/" + id);
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::GetAnovaResponse anova;
    const absl::Status status =
        connection_->Check(v1::AnalysisService::NewStub(connection_->channel())->GetAnova(&context, request, &anova));
    EXPECT_TRUE(status.ok()) << status;
    return anova.SerializeAsString();
  }

  void ExpectEveryScoreRight(const std::string& id, int trials) {
    const std::vector<v1::Trial> all = Trials(id);
    ASSERT_EQ(static_cast<int>(all.size()), trials);
    for (const v1::Trial& trial : all) {
      const std::map<std::string, std::string> cell(trial.cell().begin(), trial.cell().end());
      EXPECT_EQ(trial.scores().at("clip_i"), testing::FakeScore(cell, trial.replicate(), 7)) << trial.name();
    }
  }

  // Runs the same sweep again with nothing in its way: nothing may be missing in `id`, nothing doubled, and the F table
  // must be the same bytes. `spec` has the seed 7.
  void ExpectSameAsCleanRun(const std::string& id, const v1::SweepSpec& spec) {
    Create("clean", spec);
    const std::unique_ptr<ChildProcess> worker = StartWorker(1000, 0);
    ASSERT_TRUE(WaitUntilCompleted("clean", 90));
    const absl::StatusOr<v1::Sweep> clean = Get("clean");
    ExpectEveryScoreRight(id, static_cast<int>(clean->counts().total()));
    EXPECT_EQ(Get(id)->counts().SerializeAsString(), clean->counts().SerializeAsString());
    EXPECT_EQ(AnovaOf(id), AnovaOf("clean"));
  }

  // One trial, leased by hand.
  v1::LeaseKey Lease() {
    v1::SynchronizeRequest request;
    request.set_worker("workers/w");
    request.set_session_id("s");
    request.set_slots(1);
    v1::SynchronizeResponse response;
    grpc::ClientContext context;
    connection_->Prepare(context);
    EXPECT_TRUE(v1::WorkerService::NewStub(connection_->channel())->Synchronize(&context, request, &response).ok());
    EXPECT_EQ(response.attempts_size(), 1);
    return response.attempts(0).lease();
  }

  static v1::UploadArtifactRequest UploadHeader(const v1::LeaseKey& lease, const std::string& content) {
    v1::UploadArtifactRequest message;
    *message.mutable_header()->mutable_lease() = lease;
    message.mutable_header()->mutable_artifact()->set_name("big.bin");
    message.mutable_header()->mutable_artifact()->set_size_bytes(static_cast<int64_t>(content.size()));
    message.mutable_header()->mutable_artifact()->set_sha256(Sha256Hex(content));
    return message;
  }

  absl::Status Upload(const v1::LeaseKey& lease, const std::string& content) {
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::UploadArtifactResponse response;
    const auto writer = v1::WorkerService::NewStub(connection_->channel())->UploadArtifact(&context, &response);
    v1::UploadArtifactRequest message = UploadHeader(lease, content);
    writer->Write(message);
    for (size_t at = 0; at < content.size(); at += 1 << 18) {
      message.set_chunk(content.substr(at, 1 << 18));
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    return clients::rpc::FromGrpcStatus(writer->Finish());
  }

  testing::TempFolder folder_;
  std::string data_ = folder_ / "data";
  std::unique_ptr<testing::CoordinatorProcess> coordinator_;
  std::shared_ptr<clients::rpc::Connection> connection_;
};

}  // namespace loupe
