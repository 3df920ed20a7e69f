// The services of loupe.v1 as gRPC calls them: each method hands its call to a handler of api/.
#pragma once

#include "coordinator/api/handlers.h"
#include "coordinator/rpc/unary_reactor.h"
#include "loupe/v1/access.grpc.pb.h"
#include "loupe/v1/analysis.grpc.pb.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "loupe/v1/view.grpc.pb.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::coordinator::rpc {

// No state of their own; the handlers outlive them.

class GrpcAccessService final : public v1::AccessService::CallbackService {
 public:
  explicit GrpcAccessService(api::AccessApi& api) : api_(api) {}
  grpc::ServerUnaryReactor* Enrol(grpc::CallbackServerContext* context, const v1::EnrolRequest* request,
                                  v1::WorkerCredentials* response) override {
    return UnaryReactor::Start(api_, &api::AccessApi::Enrol, context, request, response);
  }
  grpc::ServerUnaryReactor* RenewCredentials(grpc::CallbackServerContext* context,
                                             const v1::RenewCredentialsRequest* request,
                                             v1::WorkerCredentials* response) override {
    return UnaryReactor::Start(api_, &api::AccessApi::RenewCredentials, context, request, response);
  }

 private:
  api::AccessApi& api_;
};

class GrpcSweepService final : public v1::SweepService::CallbackService {
 public:
  GrpcSweepService(const api::Backend& backend, api::SweepApi& api) : backend_(backend), api_(api) {}
  grpc::ServerUnaryReactor* CreateSweep(grpc::CallbackServerContext* context, const v1::CreateSweepRequest* request,
                                        v1::CreateSweepResponse* response) override {
    return UnaryReactor::Start(api_, &api::SweepApi::CreateSweep, context, request, response);
  }
  grpc::ServerUnaryReactor* GetSweep(grpc::CallbackServerContext* context, const v1::GetSweepRequest* request,
                                     v1::Sweep* response) override {
    return UnaryReactor::Start(api_, &api::SweepApi::GetSweep, context, request, response);
  }
  grpc::ServerUnaryReactor* ListSweeps(grpc::CallbackServerContext* context, const v1::ListSweepsRequest* request,
                                       v1::ListSweepsResponse* response) override {
    return UnaryReactor::Start(api_, &api::SweepApi::ListSweeps, context, request, response);
  }
  grpc::ServerUnaryReactor* DeleteSweep(grpc::CallbackServerContext* context, const v1::DeleteSweepRequest* request,
                                        v1::DeleteSweepResponse* response) override {
    return UnaryReactor::Start(api_, &api::SweepApi::DeleteSweep, context, request, response);
  }
  grpc::ServerUnaryReactor* PauseSweep(grpc::CallbackServerContext* context, const v1::SweepVerbRequest* request,
                                       v1::Sweep* response) override {
    return UnaryReactor::Start(api_, &api::SweepApi::PauseSweep, context, request, response);
  }
  grpc::ServerUnaryReactor* ResumeSweep(grpc::CallbackServerContext* context, const v1::SweepVerbRequest* request,
                                        v1::Sweep* response) override {
    return UnaryReactor::Start(api_, &api::SweepApi::ResumeSweep, context, request, response);
  }
  grpc::ServerUnaryReactor* StopSweep(grpc::CallbackServerContext* context, const v1::SweepVerbRequest* request,
                                      v1::Sweep* response) override {
    return UnaryReactor::Start(api_, &api::SweepApi::StopSweep, context, request, response);
  }
  grpc::ServerUnaryReactor* CancelSweep(grpc::CallbackServerContext* context, const v1::SweepVerbRequest* request,
                                        v1::Sweep* response) override {
    return UnaryReactor::Start(api_, &api::SweepApi::CancelSweep, context, request, response);
  }
  grpc::ServerUnaryReactor* RetryTrials(grpc::CallbackServerContext* context, const v1::RetryTrialsRequest* request,
                                        v1::RetryTrialsResponse* response) override {
    return UnaryReactor::Start(api_, &api::SweepApi::RetryTrials, context, request, response);
  }
  grpc::ServerWriteReactor<v1::WatchSweepResponse>* WatchSweep(grpc::CallbackServerContext* context,
                                                               const v1::WatchSweepRequest* request) override;

 private:
  const api::Backend backend_;
  api::SweepApi& api_;
};

class GrpcTrialService final : public v1::TrialService::CallbackService {
 public:
  GrpcTrialService(const api::Backend& backend, api::TrialApi& api) : backend_(backend), api_(api) {}
  grpc::ServerUnaryReactor* GetTrial(grpc::CallbackServerContext* context, const v1::GetTrialRequest* request,
                                     v1::Trial* response) override {
    return UnaryReactor::Start(api_, &api::TrialApi::GetTrial, context, request, response);
  }
  grpc::ServerUnaryReactor* ListTrials(grpc::CallbackServerContext* context, const v1::ListTrialsRequest* request,
                                       v1::ListTrialsResponse* response) override {
    return UnaryReactor::Start(api_, &api::TrialApi::ListTrials, context, request, response);
  }
  grpc::ServerUnaryReactor* ListMetricPoints(grpc::CallbackServerContext* context,
                                             const v1::ListMetricPointsRequest* request,
                                             v1::ListMetricPointsResponse* response) override {
    return UnaryReactor::Start(api_, &api::TrialApi::ListMetricPoints, context, request, response);
  }
  grpc::ServerUnaryReactor* ListArtifacts(grpc::CallbackServerContext* context, const v1::ListArtifactsRequest* request,
                                          v1::ListArtifactsResponse* response) override {
    return UnaryReactor::Start(api_, &api::TrialApi::ListArtifacts, context, request, response);
  }
  grpc::ServerUnaryReactor* ListTrialLogs(grpc::CallbackServerContext* context, const v1::ListTrialLogsRequest* request,
                                          v1::ListTrialLogsResponse* response) override {
    return UnaryReactor::Start(api_, &api::TrialApi::ListTrialLogs, context, request, response);
  }
  grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* DownloadArtifact(
      grpc::CallbackServerContext* context, const v1::DownloadArtifactRequest* request) override;

 private:
  const api::Backend backend_;
  api::TrialApi& api_;
};

class GrpcWorkerService final : public v1::WorkerService::CallbackService {
 public:
  GrpcWorkerService(const api::Backend& backend, api::WorkerApi& api) : backend_(backend), api_(api) {}
  grpc::ServerUnaryReactor* Synchronize(grpc::CallbackServerContext* context, const v1::SynchronizeRequest* request,
                                        v1::SynchronizeResponse* response) override {
    return UnaryReactor::Start(api_, &api::WorkerApi::Synchronize, context, request, response);
  }
  grpc::ServerReadReactor<v1::UploadArtifactRequest>* UploadArtifact(grpc::CallbackServerContext* context,
                                                                     v1::UploadArtifactResponse* response) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context, const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override {
    return UnaryReactor::Start(api_, &api::WorkerApi::ListWorkers, context, request, response);
  }
  grpc::ServerUnaryReactor* DrainWorker(grpc::CallbackServerContext* context, const v1::WorkerVerbRequest* request,
                                        v1::Worker* response) override {
    return UnaryReactor::Start(api_, &api::WorkerApi::DrainWorker, context, request, response);
  }
  grpc::ServerUnaryReactor* UndrainWorker(grpc::CallbackServerContext* context, const v1::WorkerVerbRequest* request,
                                          v1::Worker* response) override {
    return UnaryReactor::Start(api_, &api::WorkerApi::UndrainWorker, context, request, response);
  }

 private:
  const api::Backend backend_;
  api::WorkerApi& api_;
};

class GrpcAnalysisService final : public v1::AnalysisService::CallbackService {
 public:
  GrpcAnalysisService(const api::Backend& backend, api::AnalysisApi& api) : backend_(backend), api_(api) {}
  grpc::ServerUnaryReactor* GetAnova(grpc::CallbackServerContext* context, const v1::GetAnovaRequest* request,
                                     v1::GetAnovaResponse* response) override {
    return UnaryReactor::Start(api_, &api::AnalysisApi::GetAnova, context, request, response);
  }
  grpc::ServerWriteReactor<v1::RenderReportResponse>* RenderReport(grpc::CallbackServerContext* context,
                                                                   const v1::RenderReportRequest* request) override;

 private:
  const api::Backend backend_;
  api::AnalysisApi& api_;
};

class GrpcViewService final : public v1::ViewService::CallbackService {
 public:
  explicit GrpcViewService(api::ViewApi& api) : api_(api) {}
  grpc::ServerUnaryReactor* GetSweepDigest(grpc::CallbackServerContext* context,
                                           const v1::GetSweepDigestRequest* request,
                                           v1::SweepDigest* response) override {
    return UnaryReactor::Start(api_, &api::ViewApi::GetSweepDigest, context, request, response);
  }
  grpc::ServerUnaryReactor* GetTrialTable(grpc::CallbackServerContext* context, const v1::GetTrialTableRequest* request,
                                          v1::GetTrialTableResponse* response) override {
    return UnaryReactor::Start(api_, &api::ViewApi::GetTrialTable, context, request, response);
  }
  grpc::ServerUnaryReactor* GetCurves(grpc::CallbackServerContext* context, const v1::GetCurvesRequest* request,
                                      v1::GetCurvesResponse* response) override {
    return UnaryReactor::Start(api_, &api::ViewApi::GetCurves, context, request, response);
  }
  grpc::ServerUnaryReactor* ListAttempts(grpc::CallbackServerContext* context, const v1::ListAttemptsRequest* request,
                                         v1::ListAttemptsResponse* response) override {
    return UnaryReactor::Start(api_, &api::ViewApi::ListAttempts, context, request, response);
  }
  grpc::ServerUnaryReactor* GetTrialDetails(grpc::CallbackServerContext* context,
                                            const v1::GetTrialDetailsRequest* request,
                                            v1::TrialDetails* response) override {
    return UnaryReactor::Start(api_, &api::ViewApi::GetTrialDetails, context, request, response);
  }
  grpc::ServerUnaryReactor* GetReport(grpc::CallbackServerContext* context, const v1::RenderReportRequest* request,
                                      v1::GetReportResponse* response) override {
    return UnaryReactor::Start(api_, &api::ViewApi::GetReport, context, request, response);
  }

 private:
  api::ViewApi& api_;
};

}  // namespace loupe::coordinator::rpc
