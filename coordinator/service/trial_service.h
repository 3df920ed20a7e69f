// TrialService: reads of trials, metric points and artifacts from the store (loupe/v1/trial.proto has the contract).
#pragma once

#include "coordinator/service/calls.h"
#include "loupe/v1/trial.grpc.pb.h"

namespace loupe::coordinator {

// Thread-safe.
class TrialServiceImpl final : public v1::TrialService::CallbackService {
 public:
  explicit TrialServiceImpl(const Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* GetTrial(grpc::CallbackServerContext* context, const v1::GetTrialRequest* request,
                                     v1::Trial* response) override;
  grpc::ServerUnaryReactor* ListTrials(grpc::CallbackServerContext* context, const v1::ListTrialsRequest* request,
                                       v1::ListTrialsResponse* response) override;
  grpc::ServerUnaryReactor* ListMetricPoints(grpc::CallbackServerContext* context,
                                             const v1::ListMetricPointsRequest* request,
                                             v1::ListMetricPointsResponse* response) override;
  grpc::ServerUnaryReactor* ListArtifacts(grpc::CallbackServerContext* context, const v1::ListArtifactsRequest* request,
                                          v1::ListArtifactsResponse* response) override;
  grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* DownloadArtifact(
      grpc::CallbackServerContext* context, const v1::DownloadArtifactRequest* request) override;

 private:
  absl::Status List(const v1::ListTrialsRequest& request, v1::ListTrialsResponse& response);
  absl::Status Points(const v1::ListMetricPointsRequest& request, v1::ListMetricPointsResponse& response);

  const Backend backend_;
};

}  // namespace loupe::coordinator
