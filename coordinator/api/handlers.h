// All handlers together: what a front end serves.
#pragma once

#include "coordinator/api/access_api.h"
#include "coordinator/api/analysis_api.h"
#include "coordinator/api/sweep_api.h"
#include "coordinator/api/trial_api.h"
#include "coordinator/api/view_api.h"
#include "coordinator/api/worker_api.h"

namespace loupe::coordinator::api {

// Thread-safe. The arguments outlive it.
struct Handlers {
  Handlers(const Backend& shared, const access::ServerTls& tls, AnalysisRunner& runner,
           const engine::SweepVersions& versions)
      : backend(shared),
        access(shared, tls),
        sweeps(shared),
        trials(shared),
        workers(shared),
        analysis(shared, runner, versions),
        views(shared, analysis) {}

  const Backend backend;
  AccessApi access;
  SweepApi sweeps;
  TrialApi trials;
  WorkerApi workers;
  AnalysisApi analysis;
  ViewApi views;
};

}  // namespace loupe::coordinator::api
