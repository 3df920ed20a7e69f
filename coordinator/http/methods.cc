#include "coordinator/http/methods.h"

namespace loupe::coordinator::http {

Methods::Methods(Handlers& handlers) {
  SweepApi& sweeps = handlers.sweeps;
  Add("/loupe.v1.SweepService/CreateSweep", sweeps, &SweepApi::CreateSweep);
  Add("/loupe.v1.SweepService/GetSweep", sweeps, &SweepApi::GetSweep);
  Add("/loupe.v1.SweepService/ListSweeps", sweeps, &SweepApi::ListSweeps);
  Add("/loupe.v1.SweepService/DeleteSweep", sweeps, &SweepApi::DeleteSweep);
  Add("/loupe.v1.SweepService/PauseSweep", sweeps, &SweepApi::PauseSweep);
  Add("/loupe.v1.SweepService/ResumeSweep", sweeps, &SweepApi::ResumeSweep);
  Add("/loupe.v1.SweepService/StopSweep", sweeps, &SweepApi::StopSweep);
  Add("/loupe.v1.SweepService/CancelSweep", sweeps, &SweepApi::CancelSweep);
  Add("/loupe.v1.SweepService/RetryTrials", sweeps, &SweepApi::RetryTrials);
  TrialApi& trials = handlers.trials;
  Add("/loupe.v1.TrialService/GetTrial", trials, &TrialApi::GetTrial);
  Add("/loupe.v1.TrialService/ListTrials", trials, &TrialApi::ListTrials);
  Add("/loupe.v1.TrialService/ListMetricPoints", trials, &TrialApi::ListMetricPoints);
  Add("/loupe.v1.TrialService/ListArtifacts", trials, &TrialApi::ListArtifacts);
  Add("/loupe.v1.TrialService/ListTrialLogs", trials, &TrialApi::ListTrialLogs);
  WorkerApi& workers = handlers.workers;
  Add("/loupe.v1.WorkerService/Synchronize", workers, &WorkerApi::Synchronize);
  Add("/loupe.v1.WorkerService/ListWorkers", workers, &WorkerApi::ListWorkers);
  Add("/loupe.v1.WorkerService/DrainWorker", workers, &WorkerApi::DrainWorker);
  Add("/loupe.v1.WorkerService/UndrainWorker", workers, &WorkerApi::UndrainWorker);
  ViewApi& views = handlers.views;
  Add("/loupe.v1.ViewService/GetSweepDigest", views, &ViewApi::GetSweepDigest);
  Add("/loupe.v1.ViewService/GetTrialTable", views, &ViewApi::GetTrialTable);
  Add("/loupe.v1.ViewService/GetCurves", views, &ViewApi::GetCurves);
  Add("/loupe.v1.ViewService/ListAttempts", views, &ViewApi::ListAttempts);
  Add("/loupe.v1.ViewService/GetTrialDetails", views, &ViewApi::GetTrialDetails);
  Add("/loupe.v1.ViewService/GetReport", views, &ViewApi::GetReport);
  Add("/loupe.v1.AnalysisService/GetAnova", handlers.analysis, &AnalysisApi::GetAnova);
  Add("/loupe.v1.AccessService/Enrol", handlers.access, &AccessApi::Enrol);
  Add("/loupe.v1.AccessService/RenewCredentials", handlers.access, &AccessApi::RenewCredentials);
}

const Method* Methods::Find(std::string_view path) const {
  const auto found = methods_.find(path);
  return found == methods_.end() ? nullptr : &found->second;
}

}  // namespace loupe::coordinator::http
