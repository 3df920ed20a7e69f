// Real processes, really killed: a coordinator and workers as a user starts them, under kill -9, SIGSTOP and restarts.
//
// LOUPE_KILL_SECONDS=n makes the kill loop longer than the few seconds it has in the ordinary run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "coordinator/store/upkeep/doctor.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "tests/integration/process_fixture.h"
#include "tests/testing/small_spec.h"

namespace loupe {
namespace {

using ::testing::IsEmpty;

TEST_F(ProcessTest, KillingCoordinatorAndWorkersInALoopLosesNothingAndChangesNoNumber) {
  const char* wanted = std::getenv("LOUPE_KILL_SECONDS");
  const double seconds = wanted == nullptr ? 6 : std::atof(wanted);
  StartCoordinator();
  // 36 trials a second: more than are done under fire. (Not all of them replicates: the F table's work grows with the
  // cube of those.)
  const double size = std::sqrt(std::max(1.0, seconds / 4));
  v1::SweepSpec spec = testing::SmallSpec(static_cast<int>(4 * size), static_cast<int>(12 * size));
  // Three losses would quarantine a trial that is merely unlucky here.
  spec.mutable_retry()->set_max_worker_losses(100);
  const int trials = 3 * static_cast<int>(4 * size) * spec.replicates();
  Create("clean", spec);
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int i = 0; i < 3; ++i) workers.push_back(StartWorker(i, 0.0));
  ASSERT_TRUE(WaitUntilCompleted("clean", 60 + seconds));
  workers.clear();

  Create("faulted", spec);
  for (int i = 0; i < 3; ++i) workers.push_back(StartWorker(i, 0.05));
  const unsigned seed = static_cast<unsigned>(std::chrono::steady_clock::now().time_since_epoch().count());
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  int coordinator_kills = 0;
  int worker_kills = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    Pause(0.05 + 0.001 * static_cast<double>(random() % 400));
    if (random() % 3 == 0) {
      coordinator_->Kill(SIGKILL);
      ++coordinator_kills;
      coordinator_->StartAgain();
    } else {
      const size_t victim = random() % workers.size();
      workers[victim]->Kill(SIGKILL);
      ++worker_kills;
      workers[victim] = StartWorker(static_cast<int>(victim), 0.05);
    }
  }
  EXPECT_GT(coordinator_kills, 0);
  // The first call may still go to the one that was killed last.
  absl::StatusOr<v1::Sweep> sweep = Get("faulted");
  for (int i = 0; i < 100 && !sweep.ok(); ++i) {
    Pause(0.1);
    sweep = Get("faulted");
  }
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  const int64_t under_fire = sweep->counts().succeeded();
  // Fresh names: workers that died too often are set aside for a while.
  for (int i = 3; i < 5; ++i) workers.push_back(StartWorker(i, 0.0));
  ASSERT_TRUE(WaitUntilCompleted("faulted", 80 + seconds));
  ExpectEveryScoreRight("faulted", trials);
  EXPECT_EQ(AnovaOf("faulted"), AnovaOf("clean"));
  int64_t attempts = 0;
  int64_t losses = 0;
  for (const v1::Trial& trial : Trials("faulted")) {
    attempts += trial.attempts();
    losses += trial.worker_losses();
  }
  fmt::print(
      "{:.0f} s, seed {}: {} kills of the coordinator, {} of workers; {} of {} trials were done by then; {} attempts in all, "
      "{} of them lost\n",
      seconds, seed, coordinator_kills, worker_kills, under_fire, trials, attempts, losses);
  workers.clear();
  coordinator_->Kill(SIGTERM);
  const auto report = coordinator::store::upkeep::Examine(data_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->Damage(), IsEmpty());
}

TEST_F(ProcessTest, AWorkerStoppedBeyondItsLeaseLosesItsTrialAndItsLateResult) {
  StartCoordinator();
  const v1::SweepSpec spec = testing::SmallSpec(1, 2);
  Create("stopped", spec);
  const std::unique_ptr<ChildProcess> sleeper = StartWorker(0, 1.0);
  while (Get("stopped")->counts().running() == 0) Pause(0.02);
  sleeper->Send(SIGSTOP);
  const std::unique_ptr<ChildProcess> other = StartWorker(1, 0.0);
  ASSERT_TRUE(WaitUntilCompleted("stopped", 30));
  sleeper->Send(SIGCONT);
  Pause(0.5);
  ExpectSameAsCleanRun("stopped", spec);
}

// Stopped for longer than the lease, three times: nobody could be heard meanwhile, so nobody is charged.
TEST_F(ProcessTest, AStoppedCoordinatorCostsNobodyAnything) {
  StartCoordinator();
  Create("stalled", testing::SmallSpec(1, 7));
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int i = 0; i < 20; ++i) workers.push_back(StartWorker(i, 3.0));
  for (int i = 0; i < 200 && Get("stalled")->counts().running() < 20; ++i) Pause(0.05);
  for (int stall = 0; stall < 3; ++stall) {
    coordinator_->process().Send(SIGSTOP);
    Pause(3.0);  // one and a half leases
    coordinator_->process().Send(SIGCONT);
    Pause(0.7);
  }
  ASSERT_TRUE(WaitUntilCompleted("stalled", 60));
  for (const v1::Trial& trial : Trials("stalled")) {
    EXPECT_EQ(trial.state(), v1::Trial::SUCCEEDED) << trial.name();
    EXPECT_EQ(trial.attempts(), 1) << trial.name() << ": its worker goes on under the same lease";
    EXPECT_EQ(trial.worker_losses(), 0) << trial.name();
  }
  grpc::ClientContext context;
  connection_->Prepare(context);
  v1::ListWorkersResponse all;
  ASSERT_TRUE(
      connection_->Check(v1::WorkerService::NewStub(connection_->channel())->ListWorkers(&context, {}, &all)).ok());
  EXPECT_EQ(all.workers_size(), 20);
  for (const v1::Worker& worker : all.workers()) EXPECT_NE(worker.state(), v1::Worker::SET_ASIDE) << worker.name();
}

// Work on a whole sweep that is cut off goes on by itself.
TEST_F(ProcessTest, AKillInTheMiddleOfALongJobOnlyDelaysIt) {
  StartCoordinator();
  const auto wait_for = [&](v1::Sweep::State state) {
    for (int i = 0; i < 600; ++i, Pause(0.05)) {
      const absl::StatusOr<v1::Sweep> sweep = Get("large");
      if (sweep.ok() && sweep->state() == state) return true;
    }
    return false;
  };
  const auto kill = [&] {
    coordinator_->Kill(SIGKILL);
    coordinator_->StartAgain();
  };
  const auto verb = [&](auto method) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    connection_->Prepare(context);
    v1::SweepVerbRequest request;
    request.set_name("sweeps/large");
    v1::Sweep sweep;
    const auto stub = v1::SweepService::NewStub(connection_->channel());
    return connection_->Check((*stub.*method)(&context, request, &sweep));
  };
  Create("large", testing::SmallSpec(300, 200));
  EXPECT_EQ(Get("large")->state(), v1::Sweep::CREATING);
  kill();
  ASSERT_TRUE(wait_for(v1::Sweep::ACTIVE));
  EXPECT_EQ(Get("large")->counts().queued(), 180'000);
  ASSERT_TRUE(verb(&v1::SweepService::Stub::CancelSweep).ok());
  kill();
  ASSERT_TRUE(wait_for(v1::Sweep::CANCELLED));
  EXPECT_EQ(Get("large")->counts().cancelled(), 180'000);
  v1::DeleteSweepRequest request;
  request.set_name("sweeps/large");
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  connection_->Prepare(context);
  v1::DeleteSweepResponse gone;
  ASSERT_TRUE(
      connection_->Check(v1::SweepService::NewStub(connection_->channel())->DeleteSweep(&context, request, &gone))
          .ok());
  kill();
  // The first call may still go to the one that was killed.
  if (const absl::StatusOr<v1::Sweep> going = Get("large"); going.ok()) {
    EXPECT_EQ(going->state(), v1::Sweep::DELETING);
  }
  for (int i = 0; i < 600 && !absl::IsNotFound(Get("large").status()); ++i) Pause(0.05);
  EXPECT_TRUE(absl::IsNotFound(Get("large").status()));
  Create("large", testing::SmallSpec(1, 1));
  coordinator_->Kill(SIGTERM);
  const auto report = coordinator::store::upkeep::Examine(data_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->Damage(), IsEmpty());
  EXPECT_EQ(report->counts.trials, 3);
}

TEST_F(ProcessTest, ASecondCoordinatorOnTheSameFolderRefusesAndTheFirstGoesOn) {
  StartCoordinator();
  ChildProcess second({LOUPE_COORDINATOR, "--data", data_, "--listen", "127.0.0.1:0", "--log-level", "off"});
  const int status = second.Wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  Create("still", testing::SmallSpec(1, 1));
}

TEST_F(ProcessTest, SigtermEndsWellAndQuickly) {
  StartCoordinator();
  const std::unique_ptr<ChildProcess> worker = StartWorker(0, 0.0);
  Pause(0.5);  // lets the worker's call be held: no test depends on it
  const auto start = std::chrono::steady_clock::now();
  const int status = coordinator_->Kill(SIGTERM);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
}

}  // namespace
}  // namespace loupe
