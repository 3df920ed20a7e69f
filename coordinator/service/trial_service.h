// TrialService: reads of trials, metric points and artifacts from the store (loupe/v1/trial.proto has the contract).
#pragma once

#include "coordinator/service/backend.h"
#include "loupe/v1/trial.grpc.pb.h"

namespace loupe::coordinator {

// Thread-safe.
class TrialServiceImpl final : public v1::TrialService::Service {
 public:
  explicit TrialServiceImpl(const Backend& backend) : backend_(backend) {}

  grpc::Status GetTrial(grpc::ServerContext* context, const v1::GetTrialRequest* request, v1::Trial* response) override;
  grpc::Status ListTrials(grpc::ServerContext* context, const v1::ListTrialsRequest* request,
                          v1::ListTrialsResponse* response) override;
  grpc::Status ListMetricPoints(grpc::ServerContext* context, const v1::ListMetricPointsRequest* request,
                                v1::ListMetricPointsResponse* response) override;
  grpc::Status ListArtifacts(grpc::ServerContext* context, const v1::ListArtifactsRequest* request,
                             v1::ListArtifactsResponse* response) override;
  grpc::Status DownloadArtifact(grpc::ServerContext* context, const v1::DownloadArtifactRequest* request,
                                grpc::ServerWriter<v1::DownloadArtifactResponse>* writer) override;

 private:
  absl::Status List(const v1::ListTrialsRequest& request, v1::ListTrialsResponse& response);
  absl::Status Points(const v1::ListMetricPointsRequest& request, v1::ListMetricPointsResponse& response);
  absl::Status Download(const v1::DownloadArtifactRequest& request,
                        grpc::ServerWriter<v1::DownloadArtifactResponse>& writer);

  const Backend backend_;
};

}  // namespace loupe::coordinator
