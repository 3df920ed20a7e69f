// What AnalysisService does, whatever front end asks: the F table and reports, computed apart
// (loupe/v1/analysis.proto has the contract).
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "coordinator/api/analysis_runner.h"
#include "coordinator/api/call.h"
#include "coordinator/engine/sweep_versions.h"
#include "loupe/v1/analysis.pb.h"

namespace loupe::coordinator::api {

// Of a job that has a number only once it runs, and may be cancelled before. Thread-safe.
class AnalysisCancellation {
 public:
  explicit AnalysisCancellation(AnalysisRunner& runner) : runner_(runner) {}
  void Started(uint64_t id);
  void Cancel();

 private:
  AnalysisRunner& runner_;
  std::mutex mutex_;
  uint64_t id_ = 0;
  bool cancelled_ = false;
};

// Thread-safe. `runner` and `versions` outlive it.
class AnalysisApi {
 public:
  AnalysisApi(const Backend& backend, AnalysisRunner& runner, const engine::SweepVersions& versions)
      : backend_(backend), runner_(runner), versions_(versions) {}

  // Answers `call`; request and response live until then.
  void GetAnova(UnaryCall* call, const v1::GetAnovaRequest& request, v1::GetAnovaResponse* response);

  // The report's bytes, or why there are none: `done` is called once, on any thread, before or after this returns, with
  // CANCELLED after `cancellation` (NewCancellation) was used. Waits for the store: call it on the pool's threads.
  using Answer = std::shared_ptr<const AnalysisAnswer>;
  std::shared_ptr<AnalysisCancellation> NewCancellation() const {
    return std::make_shared<AnalysisCancellation>(runner_);
  }
  void RenderReport(const std::string& client, const v1::RenderReportRequest& request,
                    AnalysisCancellation& cancellation, const std::function<void(const Answer&)>& done);

 private:
  // What the data of these sweeps are now, as AnalysisRunner::Run wants to know it. NOT_FOUND names the sweep.
  absl::StatusOr<std::string> DataVersion(const std::vector<std::string>& names);

  const Backend backend_;
  AnalysisRunner& runner_;
  const engine::SweepVersions& versions_;
};

}  // namespace loupe::coordinator::api
