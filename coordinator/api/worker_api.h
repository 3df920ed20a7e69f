// What WorkerService does, whatever front end asks: the worker protocol, and what operators do with workers
// (loupe/v1/worker.proto has the contract).
#pragma once

#include <atomic>
#include <vector>

#include "coordinator/api/call.h"
#include "loupe/v1/worker.pb.h"

namespace loupe::coordinator::api {

// Thread-safe. Each unary method answers `call`; request and response live until then.
class WorkerApi {
 public:
  explicit WorkerApi(const Backend& backend) : backend_(backend) {}

  void Synchronize(UnaryCall* call, const v1::SynchronizeRequest& request, v1::SynchronizeResponse* response);
  void ListWorkers(UnaryCall* call, const v1::ListWorkersRequest& request, v1::ListWorkersResponse* response);
  void DrainWorker(UnaryCall* call, const v1::WorkerVerbRequest& request, v1::Worker* response);
  void UndrainWorker(UnaryCall* call, const v1::WorkerVerbRequest& request, v1::Worker* response);

 private:
  void Submit(UnaryCall* call, scheduler::SyncRequest sync, const v1::SynchronizeRequest& request,
              v1::SynchronizeResponse* response, uint64_t id);
  absl::Status List(const v1::ListWorkersRequest& request, v1::ListWorkersResponse& response);
  void Drain(UnaryCall* call, const v1::WorkerVerbRequest& request, bool draining, v1::Worker& response);
  absl::StatusOr<std::vector<v1::Worker>> Workers();
  absl::Status AddDemand(v1::ListWorkersResponse& response);

  const Backend backend_;
  std::atomic<uint64_t> next_call_{1};
};

}  // namespace loupe::coordinator::api
