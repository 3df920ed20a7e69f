// Workers that go, with and without a word, as engines make them go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <filesystem>

#include "tests/integration/process_fixture.h"
#include "tests/testing/small_spec.h"

namespace loupe {
namespace {

class LeaveProcessTest : public ProcessTest {
 protected:
  int64_t AwaitRunning(const std::string& id, int64_t count) {
    for (int i = 0; i < 600 && Get(id)->counts().running() != count; ++i) Pause(0.02);
    return Get(id)->counts().running();
  }
};

// Whoever ends a worker chooses the signal: Slurm TERM or USR2, a lost terminal HUP. Each hands the trial back at once,
// with the coordinator's word for it: nothing waits for the end of a lease (an hour here), and nothing is charged.
TEST_F(LeaveProcessTest, EachSignalHandsBackAndEndsWell) {
  StartCoordinator({}, "127.0.0.1:0", /*lease_seconds=*/3600);
  const v1::SweepSpec spec = testing::SmallSpec(1, 1);
  Create("leave", spec);
  int number = 0;
  for (const int signal : {SIGTERM, SIGUSR2, SIGHUP, SIGINT}) {
    SCOPED_TRACE(signal);
    const std::unique_ptr<ChildProcess> worker = StartWorker(++number, 1000, "", {"--grace", "1"});
    ASSERT_EQ(AwaitRunning("leave", 1), 1);
    // Engines repeat themselves.
    worker->Send(signal);
    if (signal == SIGTERM) worker->Send(SIGHUP);
    const int status = worker->Wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_EQ(Get("leave")->counts().queued(), 3);
  }
  // More than its limits of attempts and of lost workers would allow.
  const std::unique_ptr<ChildProcess> worker = StartWorker(100, 0);
  ASSERT_TRUE(WaitUntilCompleted("leave", 60));
  EXPECT_EQ(Get("leave")->counts().succeeded(), 3);
  for (const v1::Trial& trial : Trials("leave")) EXPECT_EQ(trial.worker_losses(), 0) << trial.name();
}

TEST_F(LeaveProcessTest, WorkersLeaveWhenThereIsNothingToDo) {
  StartCoordinator();
  Create("leave", testing::SmallSpec(1, 1));
  const std::unique_ptr<ChildProcess> worker = StartWorker(1, 0, "", {"--until-idle", "300ms"});
  const int status = worker->Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(Get("leave")->counts().succeeded(), 3);
}

// A machine that is gone in the middle of an upload: the half file is nobody's, the trial runs elsewhere.
TEST_F(LeaveProcessTest, AMachineLostInAnUploadLeavesNothing) {
  StartCoordinator({}, "127.0.0.1:0", /*lease_seconds=*/1);
  const v1::SweepSpec spec = testing::SmallSpec(1, 1);
  Create("leave", spec);
  const v1::LeaseKey lease = Lease();
  {
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::UploadArtifactResponse response;
    const auto writer = v1::WorkerService::NewStub(connection_->channel())->UploadArtifact(&context, &response);
    const std::string content(4 << 20, 'x');
    v1::UploadArtifactRequest message = UploadHeader(lease, content);
    ASSERT_TRUE(writer->Write(message));
    message.set_chunk(content.substr(0, 1 << 20));
    ASSERT_TRUE(writer->Write(message));
    context.TryCancel();
    EXPECT_FALSE(writer->Finish().ok());
  }
  const std::unique_ptr<ChildProcess> worker = StartWorker(1, 0);
  ASSERT_TRUE(WaitUntilCompleted("leave", 60));
  for (const v1::Trial& trial : Trials("leave")) {
    v1::ListArtifactsRequest request;
    request.set_parent(trial.name());
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::ListArtifactsResponse response;
    ASSERT_TRUE(v1::TrialService::NewStub(connection_->channel())->ListArtifacts(&context, request, &response).ok());
    for (const v1::Artifact& artifact : response.artifacts()) EXPECT_NE(artifact.name(), "big.bin");
  }
  coordinator_->Kill(SIGTERM);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(data_ + "/artifacts")) {
    if (entry.is_regular_file()) {
      EXPECT_LT(entry.file_size(), 1u << 20) << entry.path() << ": the half of a file";
    }
  }
}

}  // namespace
}  // namespace loupe
