// SweepService: thin shells over the scheduler (loupe/v1/sweep.proto has the contract).
#pragma once

#include "coordinator/service/backend.h"
#include "loupe/v1/sweep.grpc.pb.h"

namespace loupe::coordinator {

// Thread-safe. WatchSweep is served by callbacks, so that a thousand watchers need no thousand threads.
class SweepServiceImpl final : public v1::SweepService::WithCallbackMethod_WatchSweep<v1::SweepService::Service> {
 public:
  explicit SweepServiceImpl(const Backend& backend) : backend_(backend) {}

  grpc::Status CreateSweep(grpc::ServerContext* context, const v1::CreateSweepRequest* request,
                           v1::CreateSweepResponse* response) override;
  grpc::Status GetSweep(grpc::ServerContext* context, const v1::GetSweepRequest* request, v1::Sweep* response) override;
  grpc::Status ListSweeps(grpc::ServerContext* context, const v1::ListSweepsRequest* request,
                          v1::ListSweepsResponse* response) override;
  grpc::Status DeleteSweep(grpc::ServerContext* context, const v1::DeleteSweepRequest* request,
                           v1::DeleteSweepResponse* response) override;
  grpc::Status PauseSweep(grpc::ServerContext* context, const v1::SweepVerbRequest* request, v1::Sweep* response) override;
  grpc::Status ResumeSweep(grpc::ServerContext* context, const v1::SweepVerbRequest* request, v1::Sweep* response) override;
  grpc::Status StopSweep(grpc::ServerContext* context, const v1::SweepVerbRequest* request, v1::Sweep* response) override;
  grpc::Status CancelSweep(grpc::ServerContext* context, const v1::SweepVerbRequest* request, v1::Sweep* response) override;
  grpc::Status RetryTrials(grpc::ServerContext* context, const v1::RetryTrialsRequest* request,
                           v1::RetryTrialsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchSweepResponse>* WatchSweep(grpc::CallbackServerContext* context,
                                                               const v1::WatchSweepRequest* request) override;

 private:
  absl::Status Create(const v1::CreateSweepRequest& request, v1::CreateSweepResponse& response);
  absl::Status List(const v1::ListSweepsRequest& request, v1::ListSweepsResponse& response);
  absl::Status Retry(const v1::RetryTrialsRequest& request, v1::RetryTrialsResponse& response);
  grpc::Status Verb(grpc::ServerContext* context, const v1::SweepVerbRequest& request, SweepVerb verb, v1::Sweep& response);
  absl::StatusOr<v1::Sweep> View(const std::string& sweep_id);

  const Backend backend_;
};

}  // namespace loupe::coordinator
