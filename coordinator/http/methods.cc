#include "coordinator/http/methods.h"

namespace loupe::coordinator::http {

Methods::Methods(api::Handlers& handlers) {
  api::SweepApi& sweeps = handlers.sweeps;
  Add("/loupe.v1.SweepService/CreateSweep", sweeps, &api::SweepApi::CreateSweep);
  Add("/loupe.v1.SweepService/GetSweep", sweeps, &api::SweepApi::GetSweep);
  Add("/loupe.v1.SweepService/ListSweeps", sweeps, &api::SweepApi::ListSweeps);
  Add("/loupe.v1.SweepService/DeleteSweep", sweeps, &api::SweepApi::DeleteSweep);
  Add("/loupe.v1.SweepService/PauseSweep", sweeps, &api::SweepApi::PauseSweep);
  Add("/loupe.v1.SweepService/ResumeSweep", sweeps, &api::SweepApi::ResumeSweep);
  Add("/loupe.v1.SweepService/StopSweep", sweeps, &api::SweepApi::StopSweep);
  Add("/loupe.v1.SweepService/CancelSweep", sweeps, &api::SweepApi::CancelSweep);
  Add("/loupe.v1.SweepService/RetryTrials", sweeps, &api::SweepApi::RetryTrials);
  api::TrialApi& trials = handlers.trials;
  Add("/loupe.v1.TrialService/GetTrial", trials, &api::TrialApi::GetTrial);
  Add("/loupe.v1.TrialService/ListTrials", trials, &api::TrialApi::ListTrials);
  Add("/loupe.v1.TrialService/ListMetricPoints", trials, &api::TrialApi::ListMetricPoints);
  Add("/loupe.v1.TrialService/ListArtifacts", trials, &api::TrialApi::ListArtifacts);
  Add("/loupe.v1.TrialService/ListTrialLogs", trials, &api::TrialApi::ListTrialLogs);
  api::WorkerApi& workers = handlers.workers;
  Add("/loupe.v1.WorkerService/Synchronize", workers, &api::WorkerApi::Synchronize);
  Add("/loupe.v1.WorkerService/ListWorkers", workers, &api::WorkerApi::ListWorkers);
  Add("/loupe.v1.WorkerService/DrainWorker", workers, &api::WorkerApi::DrainWorker);
  Add("/loupe.v1.WorkerService/UndrainWorker", workers, &api::WorkerApi::UndrainWorker);
  api::ViewApi& views = handlers.views;
  Add("/loupe.v1.ViewService/GetSweepDigest", views, &api::ViewApi::GetSweepDigest);
  Add("/loupe.v1.ViewService/GetTrialTable", views, &api::ViewApi::GetTrialTable);
  Add("/loupe.v1.ViewService/GetCurves", views, &api::ViewApi::GetCurves);
  Add("/loupe.v1.ViewService/ListAttempts", views, &api::ViewApi::ListAttempts);
  Add("/loupe.v1.ViewService/GetTrialDetails", views, &api::ViewApi::GetTrialDetails);
  Add("/loupe.v1.ViewService/GetReport", views, &api::ViewApi::GetReport);
  Add("/loupe.v1.AnalysisService/GetAnova", handlers.analysis, &api::AnalysisApi::GetAnova);
  Add("/loupe.v1.AccessService/Enrol", handlers.access, &api::AccessApi::Enrol);
  Add("/loupe.v1.AccessService/RenewCredentials", handlers.access, &api::AccessApi::RenewCredentials);
}

const Method* Methods::Find(std::string_view path) const {
  const auto found = methods_.find(path);
  return found == methods_.end() ? nullptr : &found->second;
}

}  // namespace loupe::coordinator::http
