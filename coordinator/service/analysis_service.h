// AnalysisService: reports over one snapshot of the store (loupe/v1/analysis.proto has the contract).
#pragma once

#include "analysis/report/report.h"
#include "coordinator/service/backend.h"
#include "loupe/v1/analysis.grpc.pb.h"

namespace loupe::coordinator {

// Thread-safe.
class AnalysisServiceImpl final : public v1::AnalysisService::Service {
 public:
  explicit AnalysisServiceImpl(const Backend& backend) : backend_(backend) {}

  grpc::Status GetAnova(grpc::ServerContext* context, const v1::GetAnovaRequest* request,
                        v1::GetAnovaResponse* response) override;
  grpc::Status RenderReport(grpc::ServerContext* context, const v1::RenderReportRequest* request,
                            grpc::ServerWriter<v1::RenderReportResponse>* writer) override;

 private:
  absl::Status Anova(const v1::GetAnovaRequest& request, v1::GetAnovaResponse& response);
  absl::Status Render(const v1::RenderReportRequest& request, grpc::ServerWriter<v1::RenderReportResponse>& writer);

  const Backend backend_;
};

// What the analysis reads, from one snapshot. NOT_FOUND names the sweep.
absl::StatusOr<analysis::SweepResults> ReadResults(const Backend& backend, const std::string& sweep_id);

}  // namespace loupe::coordinator
