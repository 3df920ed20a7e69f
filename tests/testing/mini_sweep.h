// A coordinator and workers in one process, over real gRPC on loopback: what integration tests run sweeps on.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/rpc/connection.h"
#include "coordinator/server/server.h"
#include "loupe/v1/analysis.grpc.pb.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "tests/testing/fake_executor.h"
#include "tests/testing/small_spec.h"
#include "tests/testing/temp_folder.h"
#include "worker/agent/agent.h"
#include "worker/agent/grpc_coordinator_client.h"

namespace loupe::testing {

// One worker on its own thread.
class WorkerThread {
 public:
  WorkerThread(std::shared_ptr<clients::rpc::Connection> connection, const std::string& name, const std::string& folder,
               const FakeExecutorOptions& options);
  // Stops it as SIGTERM would and waits.
  ~WorkerThread();

  worker::agent::Agent& agent() { return agent_; }

 private:
  worker::agent::GrpcCoordinatorClient client_;
  FakeExecutor executor_;
  worker::agent::Agent agent_;
  std::thread thread_;
};

class MiniSweep {
 public:
  explicit MiniSweep(coordinator::scheduler::SchedulerOptions options = {});
  ~MiniSweep();

  // Stops the coordinator and starts it again on the same data (and port).
  void RestartCoordinator();
  WorkerThread& AddWorker(const std::string& name, const FakeExecutorOptions& options = {});
  void StopWorkers() { workers_.clear(); }

  // Each dies on an error (tests only): use the stubs for calls that should fail.
  v1::Sweep Create(const std::string& id, const v1::SweepSpec& spec);
  v1::Sweep Get(const std::string& id);
  // Watches until the sweep is terminal.
  v1::Sweep WaitUntilEnded(const std::string& id);
  std::vector<v1::Trial> Trials(const std::string& id);

  v1::SweepService::Stub& sweeps() { return *sweeps_; }
  v1::TrialService::Stub& trials() { return *trials_; }
  v1::WorkerService::Stub& workers() { return *worker_stub_; }
  v1::AnalysisService::Stub& analysis() { return *analysis_; }
  const std::shared_ptr<clients::rpc::Connection>& connection() const { return connection_; }
  const std::string& data_folder() const { return folder_.path(); }
  std::string address() const { return server_->address(); }
  // Of the HTTP interface; the same after a restart.
  int http_port() const { return http_port_; }

 private:
  void Connect();

  TempFolder folder_;
  coordinator::server::ServerOptions options_;
  int http_port_ = 0;
  std::unique_ptr<coordinator::server::Server> server_;
  std::shared_ptr<clients::rpc::Connection> connection_;
  std::unique_ptr<v1::SweepService::Stub> sweeps_;
  std::unique_ptr<v1::TrialService::Stub> trials_;
  std::unique_ptr<v1::WorkerService::Stub> worker_stub_;
  std::unique_ptr<v1::AnalysisService::Stub> analysis_;
  std::vector<std::unique_ptr<WorkerThread>> workers_;
};

}  // namespace loupe::testing
