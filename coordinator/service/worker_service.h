// WorkerService: the worker protocol and what operators do with workers (loupe/v1/worker.proto has the contract).
#pragma once

#include <atomic>

#include "coordinator/service/backend.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::coordinator {

// Thread-safe. Synchronize is served by callbacks: a held call costs memory, not a thread.
class WorkerServiceImpl final : public v1::WorkerService::WithCallbackMethod_Synchronize<v1::WorkerService::Service> {
 public:
  explicit WorkerServiceImpl(const Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* Synchronize(grpc::CallbackServerContext* context, const v1::SynchronizeRequest* request,
                                        v1::SynchronizeResponse* response) override;
  grpc::Status UploadArtifact(grpc::ServerContext* context, grpc::ServerReader<v1::UploadArtifactRequest>* reader,
                              v1::UploadArtifactResponse* response) override;
  grpc::Status ListWorkers(grpc::ServerContext* context, const v1::ListWorkersRequest* request,
                           v1::ListWorkersResponse* response) override;
  grpc::Status DrainWorker(grpc::ServerContext* context, const v1::WorkerVerbRequest* request, v1::Worker* response) override;
  grpc::Status UndrainWorker(grpc::ServerContext* context, const v1::WorkerVerbRequest* request,
                             v1::Worker* response) override;

 private:
  absl::Status Upload(grpc::ServerReader<v1::UploadArtifactRequest>& reader, v1::UploadArtifactResponse& response);
  absl::Status List(const v1::ListWorkersRequest& request, v1::ListWorkersResponse& response);
  grpc::Status Drain(grpc::ServerContext* context, const std::string& name, bool draining, v1::Worker& response);
  absl::StatusOr<std::vector<v1::Worker>> Workers();

  const Backend backend_;
  std::atomic<uint64_t> next_call_{1};
};

}  // namespace loupe::coordinator
