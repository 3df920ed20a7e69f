// The way of a worker from an enrolment to credentials of its own, with real processes and mutual TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "common/credentials.h"
#include "fmt/format.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "tests/testing/coordinator_process.h"
#include "tests/testing/temp_folder.h"

namespace loupe {
namespace {

using testing::ChildProcess;

class EnrolmentTest : public ::testing::Test {
 protected:
  EnrolmentTest()
      : coordinator_({LOUPE_COORDINATOR}, folder_ / "data", {"--log-level", "off"}, "0.0.0.0:0"),
        admin_(*clients::rpc::Connection::Open(
            *clients::rpc::ResolveConnectOptions({.credentials_file = folder_ / "data/credentials"}))) {}

  // `loupe-coordinator token …`; its wait status.
  int Token(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {LOUPE_COORDINATOR, "--data", folder_ / "data", "token"});
    return ChildProcess(arguments).Wait();
  }
  // With the enrolment of farm.pem, on a machine whose disk is `machine`.
  std::unique_ptr<ChildProcess> StartWorker(const std::string& machine) {
    return std::make_unique<ChildProcess>(std::vector<std::string>{
        LOUPE_FAKE_WORKER, "--credentials", folder_ / "farm.pem", "--data", folder_ / machine, "--log-level", "off"});
  }
  std::vector<std::string> Workers() {
    v1::ListWorkersResponse response;
    grpc::ClientContext context;
    admin_->Prepare(context);
    const absl::Status status =
        admin_->Check(v1::WorkerService::NewStub(admin_->channel())->ListWorkers(&context, {}, &response));
    EXPECT_TRUE(status.ok()) << status;
    std::vector<std::string> names;
    for (const v1::Worker& worker : response.workers()) names.push_back(worker.name());
    return names;
  }
  bool WaitForWorkers(size_t count) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(15);
    while (Workers().size() < count && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return Workers().size() == count;
  }

  testing::TempFolder folder_;
  testing::CoordinatorProcess coordinator_;
  const std::shared_ptr<clients::rpc::Connection> admin_;
};

TEST_F(EnrolmentTest, OneCommandGivesAWorkerItsOwnIdentity) {
  ASSERT_EQ(Token({"add", "--name", "farm", "--role", "enrol", "--uses", "2", "-o", folder_ / "farm.pem", "--address",
                   "localhost" + coordinator_.address().substr(coordinator_.address().rfind(':'))}),
            0);
  // Two workers of one host and one disk.
  auto first = StartWorker("disk");
  auto second = StartWorker("disk");
  ASSERT_TRUE(WaitForWorkers(2));
  const std::vector<std::string> names = Workers();
  const Credentials own = *ReadCredentials(folder_ / ("disk/credentials/" + names[0].substr(8) + ".pem"));
  EXPECT_FALSE(own.is_enrolment());
  EXPECT_NE(own.token, ReadCredentials(folder_ / ("disk/credentials/" + names[1].substr(8) + ".pem"))->token);
  // Started again they find themselves; the enrolment is used up.
  first->Kill(SIGTERM);
  second->Kill(SIGTERM);
  ASSERT_EQ(Token({"revoke", "--name", "farm"}), 0);
  first = StartWorker("disk");
  second = StartWorker("disk");
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_TRUE(first->Runs() && second->Runs());
  EXPECT_EQ(Workers(), names);
  // A machine that has only the enrolment's file comes too late.
  EXPECT_NE(StartWorker("another-disk")->Wait(), 0);
  // A revoked worker ends by itself, and does not enrol again.
  ASSERT_EQ(Token({"revoke", "--name", names[0]}), 0);
  ASSERT_EQ(Token({"revoke", "--name", names[1]}), 0);
  EXPECT_NE(first->Wait(), 0);
  EXPECT_NE(second->Wait(), 0);
}

}  // namespace
}  // namespace loupe
