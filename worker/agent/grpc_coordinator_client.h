// The worker protocol over gRPC.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <mutex>

#include "loupe/v1/worker.grpc.pb.h"
#include "worker/agent/coordinator_client.h"

namespace loupe::worker {

// Called on the context of every call before it starts: adds credentials.
using PrepareContext = std::function<void(grpc::ClientContext&)>;

// Owns its stub, shares the channel. Thread-safe.
class GrpcCoordinatorClient : public CoordinatorClient {
 public:
  // `prepare` may be empty.
  GrpcCoordinatorClient(std::shared_ptr<grpc::Channel> channel, PrepareContext prepare);
  // For tests with an in-process server's or a mock's stub.
  GrpcCoordinatorClient(std::unique_ptr<v1::WorkerService::StubInterface> stub, PrepareContext prepare);

  absl::StatusOr<v1::SynchronizeResponse> Synchronize(const v1::SynchronizeRequest& request,
                                                      absl::Duration timeout) override;
  absl::Status Upload(const v1::LeaseKey& lease, const ArtifactFile& file, absl::Duration timeout) override;
  void Interrupt() override;

 private:
  void Prepare(grpc::ClientContext& context, absl::Duration timeout) const;

  const std::unique_ptr<v1::WorkerService::StubInterface> stub_;
  const PrepareContext prepare_;
  std::mutex mutex_;
  grpc::ClientContext* synchronizing_ = nullptr;  // guarded by mutex_
  bool interrupted_ = false;                      // guarded by mutex_
};

}  // namespace loupe::worker
