// Real processes, really killed: a coordinator and workers as a user starts them, under kill -9, SIGSTOP and restarts.
//
// LOUPE_KILL_SECONDS=n makes the kill loop longer than the few seconds it has in the ordinary run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include "clients/rpc/connection.h"
#include "common/atomic_file.h"
#include "coordinator/store/doctor.h"
#include "fmt/format.h"
#include "loupe/v1/analysis.grpc.pb.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "tests/testing/fake_executor.h"
#include "tests/testing/small_spec.h"
#include "tests/testing/temp_folder.h"

namespace loupe {
namespace {

using ::testing::IsEmpty;
using Clock = std::chrono::steady_clock;

// A child process; killed when the object goes.
class Process {
 public:
  explicit Process(const std::vector<std::string>& command) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ~Process() {
    if (pid_ > 0) Kill(SIGKILL);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Sends it and waits for the end; the wait status.
  int Kill(int signal) {
    ::kill(pid_, SIGCONT);
    ::kill(pid_, signal);
    return Wait();
  }
  void Send(int signal) const { ::kill(pid_, signal); }
  int Wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
};

class ProcessTest : public ::testing::Test {
 protected:
  std::unique_ptr<Process> StartCoordinator(const std::string& listen = "127.0.0.1:0") {
    std::filesystem::remove(data_ + "/address");
    auto process = std::make_unique<Process>(std::vector<std::string>{
        LOUPE_COORDINATOR, "--data", data_, "--listen", listen, "--lease-seconds", "2", "--log-level", "off"});
    for (int i = 0; i < 2000 && !std::filesystem::exists(data_ + "/address"); ++i) Pause(0.01);
    address_ = *ReadFile(data_ + "/address");
    address_.resize(address_.find('\n'));
    if (!connection_) connection_ = *Connection::Open(*ResolveConnectOptions({.address = address_, .token_file = data_ + "/token"}));
    return process;
  }

  std::unique_ptr<Process> StartWorker(int number, double seconds) {
    return std::make_unique<Process>(std::vector<std::string>{
        LOUPE_FAKE_WORKER, "--address", address_, "--token-file", data_ + "/token", "--name", fmt::format("w{}", number),
        "--data", folder_ / fmt::format("worker-{}", number), "--seconds", fmt::format("{}", seconds), "--log-level", "off"});
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
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (Clock::now() < end) {
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
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::ListTrialsResponse response;
    ASSERT_TRUE(
        connection_->Check(v1::TrialService::NewStub(connection_->channel())->ListTrials(&context, request, &response)).ok());
    ASSERT_EQ(response.trials_size(), trials);
    for (const v1::Trial& trial : response.trials()) {
      const std::map<std::string, std::string> cell(trial.cell().begin(), trial.cell().end());
      EXPECT_EQ(trial.scores().at("clip_i"), testing::FakeScore(cell, trial.replicate(), 7)) << trial.name();
    }
  }

  testing::TempFolder folder_;
  const std::string data_ = folder_ / "data";
  std::string address_;
  std::shared_ptr<Connection> connection_;
};

TEST_F(ProcessTest, KillingCoordinatorAndWorkersInALoopLosesNothingAndChangesNoNumber) {
  const char* wanted = std::getenv("LOUPE_KILL_SECONDS");
  const double seconds = wanted == nullptr ? 6 : std::atof(wanted);
  std::unique_ptr<Process> coordinator = StartCoordinator();
  v1::SweepSpec spec = testing::SmallSpec(4, std::max(4, static_cast<int>(seconds * 2)));
  // Three losses would quarantine a trial that is merely unlucky here.
  spec.mutable_retry()->set_max_worker_losses(100);
  const int trials = 12 * spec.replicates();
  Create("clean", spec);
  std::vector<std::unique_ptr<Process>> workers;
  for (int i = 0; i < 3; ++i) workers.push_back(StartWorker(i, 0.0));
  ASSERT_TRUE(WaitUntilCompleted("clean", 60));
  workers.clear();

  Create("faulted", spec);
  for (int i = 0; i < 3; ++i) workers.push_back(StartWorker(i, 0.05));
  const unsigned seed = static_cast<unsigned>(Clock::now().time_since_epoch().count());
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  int coordinator_kills = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < end) {
    Pause(0.05 + 0.001 * static_cast<double>(random() % 400));
    if (random() % 3 == 0) {
      coordinator->Kill(SIGKILL);
      ++coordinator_kills;
      coordinator = StartCoordinator(address_);
    } else {
      const size_t victim = random() % workers.size();
      workers[victim]->Kill(SIGKILL);
      workers[victim] = StartWorker(static_cast<int>(victim), 0.05);
    }
  }
  EXPECT_GT(coordinator_kills, 0);
  // Fresh names: workers that died too often are set aside for a while.
  for (int i = 3; i < 5; ++i) workers.push_back(StartWorker(i, 0.0));
  ASSERT_TRUE(WaitUntilCompleted("faulted", 80));
  ExpectEveryScoreRight("faulted", trials);
  EXPECT_EQ(AnovaOf("faulted"), AnovaOf("clean"));
  workers.clear();
  coordinator->Kill(SIGTERM);
  const auto findings = coordinator::Examine(data_);
  ASSERT_TRUE(findings.ok()) << findings.status();
  for (const std::string& finding : *findings) {
    // Uploads that were cut off between file and row are named, and are no damage.
    EXPECT_THAT(finding, ::testing::HasSubstr("no attempt refers to it"));
  }
}

TEST_F(ProcessTest, AWorkerStoppedBeyondItsLeaseLosesItsTrialAndItsLateResult) {
  std::unique_ptr<Process> coordinator = StartCoordinator();
  Create("stopped", testing::SmallSpec(1, 1));
  const std::unique_ptr<Process> sleeper = StartWorker(0, 1.0);
  while (Get("stopped")->counts().running() == 0) Pause(0.02);
  sleeper->Send(SIGSTOP);
  const std::unique_ptr<Process> other = StartWorker(1, 0.0);
  ASSERT_TRUE(WaitUntilCompleted("stopped", 30));
  sleeper->Send(SIGCONT);
  Pause(0.5);
  ExpectEveryScoreRight("stopped", 3);
  EXPECT_EQ(Get("stopped")->counts().succeeded(), 3);
}

TEST_F(ProcessTest, ASecondCoordinatorOnTheSameFolderRefusesAndTheFirstGoesOn) {
  std::unique_ptr<Process> first = StartCoordinator();
  Process second({LOUPE_COORDINATOR, "--data", data_, "--listen", "127.0.0.1:0", "--log-level", "off"});
  const int status = second.Wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  Create("still", testing::SmallSpec(1, 1));
}

TEST_F(ProcessTest, SigtermEndsWellAndQuickly) {
  std::unique_ptr<Process> coordinator = StartCoordinator();
  const std::unique_ptr<Process> worker = StartWorker(0, 0.0);
  Pause(0.5);  // lets the worker's call be held: no test depends on it
  const auto start = Clock::now();
  const int status = coordinator->Kill(SIGTERM);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(15));
}

}  // namespace
}  // namespace loupe
