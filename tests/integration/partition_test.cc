// A network that is cut, and a crowd that comes back at once: real sockets, real packets that vanish.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include <cstdlib>

#include "coordinator/store/data_folder.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "spdlog/spdlog.h"
#include "tests/integration/process_fixture.h"
#include "tests/testing/small_spec.h"
#include "worker/agent/agent.h"
#include "worker/agent/grpc_coordinator_client.h"

namespace loupe {
namespace {

// In a network of its own, packets to one address vanish without a word: no reset, no error, as when a cable is cut.
// The coordinator is 127.0.0.2, everybody else 127.0.0.1.
class PartitionTest : public ProcessTest {
 protected:
  static void SetUpTestSuite() {
    // Before any thread is started: threads and processes made from here on live in the new network.
    own_network_ = ::unshare(CLONE_NEWNET) == 0 && std::system("ip link set lo up") == 0;
  }
  void SetUp() override {
    if (!own_network_) GTEST_SKIP() << "this user may not make a network of his own, or 'ip' is missing";
    StartCoordinator({}, "127.0.0.2:0");
    spec_ = testing::SmallSpec(4, 3);
    spec_.mutable_retry()->set_max_worker_losses(100);
    Create("cut-off", spec_);
    for (int i = 0; i < 2; ++i) workers_.push_back(StartWorker(i, 0.2));
    while (Get("cut-off")->counts().succeeded() < 4) Pause(0.05);
  }
  static void Cut(const std::string& address) {
    ASSERT_EQ(std::system(("ip route replace blackhole " + address + "/32 table local").c_str()), 0);
  }
  static void Heal(const std::string& address) {
    ASSERT_EQ(std::system(("ip route replace local " + address + "/32 dev lo src 127.0.0.1 table local").c_str()), 0);
  }
  // Past the network, from the file.
  int64_t StoredResults() const {
    const auto db = coordinator::store::OpenDatabase(data_);
    EXPECT_TRUE(db.ok()) << db.status();
    return coordinator::store::CountData(**db)->results;
  }
  // Beyond the lease of two seconds: the coordinator gives the trials up, and their workers too.
  void CutForFiveSecondsAndFinish(const std::vector<std::string>& addresses) {
    for (const std::string& address : addresses) Cut(address);
    Pause(5);
    for (const std::string& address : addresses) Heal(address);
    ASSERT_TRUE(WaitUntilCompleted("cut-off", 90));
    EXPECT_EQ(Get("cut-off")->counts().succeeded(), 36);
    workers_.clear();
    ExpectSameAsCleanRun("cut-off", spec_);
  }

  v1::SweepSpec spec_;
  std::vector<std::unique_ptr<ChildProcess>> workers_;
  static bool own_network_;
};
bool PartitionTest::own_network_ = false;

TEST_F(PartitionTest, WhatWorkersSayIsLostAndAfterItHealsEveryTrialIsDoneOnceAndRight) {
  CutForFiveSecondsAndFinish({"127.0.0.2"});
}

TEST_F(PartitionTest, WhatTheCoordinatorAnswersIsLostThoughItHasActedOnTheCall) {
  // The workers' calls still arrive: a trial that is done now is accepted, and nobody is told. That takes a worker that
  // says so without waiting for an answer first, to an upload or to a call that was under way when the network went; so
  // in several tries.
  workers_.push_back(StartWorker(2, 0.2, "", {"--artifacts", "0"}));
  while (Get("cut-off")->counts().running() < 3) Pause(0.01);
  bool acted = false;
  for (int cut = 0; cut < 5 && !acted; ++cut) {
    Cut("127.0.0.1");
    const int64_t before = StoredResults();
    for (int i = 0; i < 50 && !acted; ++i) {
      Pause(0.02);
      acted = StoredResults() > before;
    }
    Heal("127.0.0.1");
    if (!acted) Pause(0.5);
  }
  EXPECT_TRUE(acted);
  CutForFiveSecondsAndFinish({"127.0.0.1"});
}

TEST_F(PartitionTest, NothingGetsThroughAtAll) { CutForFiveSecondsAndFinish({"127.0.0.1", "127.0.0.2"}); }

// One worker of the crowd: the real agent, with a connection of its own.
class CrowdWorker {
 public:
  CrowdWorker(const testing::CoordinatorProcess& coordinator, int number, const std::string& folder)
      : client_(coordinator.Connect()),
        executor_({.seconds = 4, .artifacts = false}),
        agent_(
            [&] {
              worker::agent::AgentOptions options;
              options.worker = fmt::format("workers/crowd-{}", number);
              options.data_folder = fmt::format("{}/crowd-{}", folder, number);
              return options;
            }(),
            {&client_, &executor_, &SystemClock(), &SystemRandom()}),
        thread_([this] { agent_.Run().IgnoreError(); }) {}
  ~CrowdWorker() {
    agent_.RequestStop();
    thread_.join();
  }

 private:
  worker::agent::GrpcCoordinatorClient client_;
  testing::FakeExecutor executor_;
  worker::agent::Agent agent_;
  std::thread thread_;
};

using CrowdTest = ProcessTest;

TEST_F(CrowdTest, HundredsOfWorkersComeBackToARestartedCoordinatorAndNoneLosesItsTrial) {
  constexpr int kWorkers = 300;
  spdlog::set_level(spdlog::level::off);
  StartCoordinator({}, "127.0.0.1:0", /*lease_seconds=*/30);
  const v1::SweepSpec spec = testing::SmallSpec(kWorkers / 3, 1);
  Create("crowd", spec);
  std::vector<std::unique_ptr<CrowdWorker>> crowd;
  for (int i = 0; i < kWorkers; ++i) crowd.push_back(std::make_unique<CrowdWorker>(*coordinator_, i, folder_.path()));
  while (Get("crowd")->counts().running() + Get("crowd")->counts().succeeded() < kWorkers) Pause(0.05);
  coordinator_->Kill(SIGKILL);
  coordinator_->StartAgain();
  ASSERT_TRUE(WaitUntilCompleted("crowd", 90));
  const std::vector<v1::Trial> trials = Trials("crowd");
  for (const v1::Trial& trial : trials) {
    EXPECT_EQ(trial.attempts(), 1) << trial.name() << ": its worker was back in time";
  }
  crowd.clear();
  ExpectSameAsCleanRun("crowd", spec);
}

}  // namespace
}  // namespace loupe
