// The worker protocol over gRPC.
#pragma once

#include <grpcpp/client_context.h>

#include <memory>
#include <mutex>

#include "clients/rpc/connection.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "worker/agent/coordinator_client.h"

namespace loupe::worker::agent {

// Shares the connection. Thread-safe.
class GrpcCoordinatorClient : public CoordinatorClient {
 public:
  explicit GrpcCoordinatorClient(std::shared_ptr<clients::rpc::Connection> connection);

  absl::StatusOr<v1::SynchronizeResponse> Synchronize(const v1::SynchronizeRequest& request,
                                                      absl::Duration timeout) override;
  absl::Status Upload(const v1::LeaseKey& lease, const ArtifactFile& file, absl::Duration timeout) override;
  void Interrupt() override;

 private:
  const std::shared_ptr<clients::rpc::Connection> connection_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::mutex mutex_;
  grpc::ClientContext* synchronizing_ = nullptr;  // guarded by mutex_
  bool interrupted_ = false;                      // guarded by mutex_
};

}  // namespace loupe::worker::agent
