// AnalysisService: the F table and reports, computed apart (loupe/v1/analysis.proto has the contract).
#pragma once

#include "coordinator/service/analysis_runner.h"
#include "coordinator/service/calls.h"
#include "coordinator/service/sweep_versions.h"
#include "loupe/v1/analysis.grpc.pb.h"

namespace loupe::coordinator {

// Thread-safe. `runner` and `versions` outlive it.
class AnalysisServiceImpl final : public v1::AnalysisService::CallbackService {
 public:
  AnalysisServiceImpl(const Backend& backend, AnalysisRunner& runner, const SweepVersions& versions)
      : backend_(backend), runner_(runner), versions_(versions) {}

  grpc::ServerUnaryReactor* GetAnova(grpc::CallbackServerContext* context, const v1::GetAnovaRequest* request,
                                     v1::GetAnovaResponse* response) override;
  grpc::ServerWriteReactor<v1::RenderReportResponse>* RenderReport(grpc::CallbackServerContext* context,
                                                                   const v1::RenderReportRequest* request) override;

 private:
  // What the data of these sweeps are now, as AnalysisRunner::Run wants to know it. NOT_FOUND names the sweep.
  absl::StatusOr<std::string> DataVersion(const std::vector<std::string>& names);

  const Backend backend_;
  AnalysisRunner& runner_;
  const SweepVersions& versions_;
};

}  // namespace loupe::coordinator
