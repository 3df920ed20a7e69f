// SweepService: thin shells over the scheduler (loupe/v1/sweep.proto has the contract).
#pragma once

#include "coordinator/service/calls.h"
#include "loupe/v1/sweep.grpc.pb.h"

namespace loupe::coordinator {

// Thread-safe.
class SweepServiceImpl final : public v1::SweepService::CallbackService {
 public:
  explicit SweepServiceImpl(const Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* CreateSweep(grpc::CallbackServerContext* context, const v1::CreateSweepRequest* request,
                                        v1::CreateSweepResponse* response) override;
  grpc::ServerUnaryReactor* GetSweep(grpc::CallbackServerContext* context, const v1::GetSweepRequest* request,
                                     v1::Sweep* response) override;
  grpc::ServerUnaryReactor* ListSweeps(grpc::CallbackServerContext* context, const v1::ListSweepsRequest* request,
                                       v1::ListSweepsResponse* response) override;
  grpc::ServerUnaryReactor* DeleteSweep(grpc::CallbackServerContext* context, const v1::DeleteSweepRequest* request,
                                        v1::DeleteSweepResponse* response) override;
  grpc::ServerUnaryReactor* PauseSweep(grpc::CallbackServerContext* context, const v1::SweepVerbRequest* request,
                                       v1::Sweep* response) override;
  grpc::ServerUnaryReactor* ResumeSweep(grpc::CallbackServerContext* context, const v1::SweepVerbRequest* request,
                                        v1::Sweep* response) override;
  grpc::ServerUnaryReactor* StopSweep(grpc::CallbackServerContext* context, const v1::SweepVerbRequest* request,
                                      v1::Sweep* response) override;
  grpc::ServerUnaryReactor* CancelSweep(grpc::CallbackServerContext* context, const v1::SweepVerbRequest* request,
                                        v1::Sweep* response) override;
  grpc::ServerUnaryReactor* RetryTrials(grpc::CallbackServerContext* context, const v1::RetryTrialsRequest* request,
                                        v1::RetryTrialsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchSweepResponse>* WatchSweep(grpc::CallbackServerContext* context,
                                                               const v1::WatchSweepRequest* request) override;

 private:
  // `client`: whose jobs they are.
  absl::Status Create(const v1::CreateSweepRequest& request, const std::string& client,
                      v1::CreateSweepResponse& response);
  absl::Status List(const v1::ListSweepsRequest& request, v1::ListSweepsResponse& response);
  absl::Status Retry(const v1::RetryTrialsRequest& request, const std::string& client,
                     v1::RetryTrialsResponse& response);
  grpc::ServerUnaryReactor* Verb(grpc::CallbackServerContext* context, const v1::SweepVerbRequest& request,
                                 SweepVerb verb, v1::Sweep& response);
  absl::StatusOr<v1::Sweep> View(const std::string& sweep_id);

  const Backend backend_;
};

}  // namespace loupe::coordinator
