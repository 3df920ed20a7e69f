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
#include "fmt/format.h"
#include "loupe/v1/analysis.grpc.pb.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "tests/testing/coordinator_process.h"
#include "tests/testing/fake_executor.h"
#include "tests/testing/temp_folder.h"

namespace loupe {

using testing::ChildProcess;

class ProcessTest : public ::testing::Test {
 protected:
  // `before`: a program that starts the coordinator, with its arguments.
  void StartCoordinator(std::vector<std::string> before = {}, const std::string& listen = "127.0.0.1:0") {
    before.push_back(LOUPE_COORDINATOR);
    coordinator_ = std::make_unique<testing::CoordinatorProcess>(
        std::move(before), data_, std::vector<std::string>{"--lease-seconds", "2", "--log-level", "off"}, listen);
    connection_ = coordinator_->connection();
  }

  std::unique_ptr<ChildProcess> StartWorker(int number, double seconds) {
    return std::make_unique<ChildProcess>(std::vector<std::string>{
        LOUPE_FAKE_WORKER, "--address", coordinator_->address(), "--token-file", coordinator_->token_file(), "--name",
        fmt::format("w{}", number), "--data", folder_ / fmt::format("worker-{}", number), "--seconds",
        fmt::format("{}", seconds), "--log-level", "off"});
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
    const absl::Status status =
        connection_->Check(v1::SweepService::NewStub(connection_->channel())->CreateSweep(&context, request, &response));
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
    v1::ListTrialsRequest request;
    request.set_parent("sweeps/" + id);
    request.set_page_size(1000);
    std::vector<v1::Trial> all;
    do {
      grpc::ClientContext context;
      connection_->Prepare(context);
      v1::ListTrialsResponse response;
      ASSERT_TRUE(
          connection_->Check(v1::TrialService::NewStub(connection_->channel())->ListTrials(&context, request, &response)).ok());
      all.insert(all.end(), response.trials().begin(), response.trials().end());
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    ASSERT_EQ(static_cast<int>(all.size()), trials);
    for (const v1::Trial& trial : all) {
      const std::map<std::string, std::string> cell(trial.cell().begin(), trial.cell().end());
      EXPECT_EQ(trial.scores().at("clip_i"), testing::FakeScore(cell, trial.replicate(), 7)) << trial.name();
    }
  }

  testing::TempFolder folder_;
  std::string data_ = folder_ / "data";
  std::unique_ptr<testing::CoordinatorProcess> coordinator_;
  std::shared_ptr<Connection> connection_;
};

}  // namespace loupe
