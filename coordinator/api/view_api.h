// What ViewService does, whatever front end asks: a sweep as a page shows it (loupe/v1/view.proto has the contract).
#pragma once

#include <string>

#include "coordinator/api/analysis_api.h"
#include "coordinator/api/call.h"
#include "loupe/v1/view.pb.h"

namespace loupe::coordinator::api {

// Thread-safe. Each method answers `call`; request and response live until then. `analysis` outlives it.
class ViewApi {
 public:
  ViewApi(const Backend& backend, AnalysisApi& analysis) : backend_(backend), analysis_(analysis) {}

  void GetSweepDigest(UnaryCall* call, const v1::GetSweepDigestRequest& request, v1::SweepDigest* response);
  void GetTrialTable(UnaryCall* call, const v1::GetTrialTableRequest& request, v1::GetTrialTableResponse* response);
  void GetCurves(UnaryCall* call, const v1::GetCurvesRequest& request, v1::GetCurvesResponse* response);
  void ListAttempts(UnaryCall* call, const v1::ListAttemptsRequest& request, v1::ListAttemptsResponse* response);
  void GetTrialDetails(UnaryCall* call, const v1::GetTrialDetailsRequest& request, v1::TrialDetails* response);
  void GetReport(UnaryCall* call, const v1::RenderReportRequest& request, v1::GetReportResponse* response);

 private:
  absl::Status Digest(const v1::GetSweepDigestRequest& request, v1::SweepDigest& response);
  absl::Status Table(const v1::GetTrialTableRequest& request, v1::GetTrialTableResponse& response);
  absl::Status Curves(const v1::GetCurvesRequest& request, v1::GetCurvesResponse& response);
  absl::Status Attempts(const v1::ListAttemptsRequest& request, v1::ListAttemptsResponse& response);
  absl::Status Details(const v1::GetTrialDetailsRequest& request, v1::TrialDetails& response);

  const Backend backend_;
  AnalysisApi& analysis_;
};

}  // namespace loupe::coordinator::api
