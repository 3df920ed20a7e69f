// WorkerService: the worker protocol and what operators do with workers (loupe/v1/worker.proto has the contract).
#pragma once

#include <atomic>

#include "coordinator/service/calls.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::coordinator {

// Thread-safe.
class WorkerServiceImpl final : public v1::WorkerService::CallbackService {
 public:
  explicit WorkerServiceImpl(const Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* Synchronize(grpc::CallbackServerContext* context, const v1::SynchronizeRequest* request,
                                        v1::SynchronizeResponse* response) override;
  grpc::ServerReadReactor<v1::UploadArtifactRequest>* UploadArtifact(grpc::CallbackServerContext* context,
                                                                     v1::UploadArtifactResponse* response) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context, const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;
  grpc::ServerUnaryReactor* DrainWorker(grpc::CallbackServerContext* context, const v1::WorkerVerbRequest* request,
                                        v1::Worker* response) override;
  grpc::ServerUnaryReactor* UndrainWorker(grpc::CallbackServerContext* context, const v1::WorkerVerbRequest* request,
                                          v1::Worker* response) override;

 private:
  void Submit(UnaryCall* call, SyncRequest sync, const v1::SynchronizeRequest* request,
              v1::SynchronizeResponse* response, uint64_t id);
  absl::Status List(const v1::ListWorkersRequest& request, v1::ListWorkersResponse& response);
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context, const v1::WorkerVerbRequest& request,
                                  bool draining, v1::Worker& response);
  absl::StatusOr<std::vector<v1::Worker>> Workers();
  absl::Status AddWaiting(v1::ListWorkersResponse& response);

  const Backend backend_;
  std::atomic<uint64_t> next_call_{1};
};

}  // namespace loupe::coordinator
