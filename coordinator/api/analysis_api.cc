#include "coordinator/api/analysis_api.h"

#include <memory>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {

void AnalysisCancellation::Started(uint64_t id) {
  std::unique_lock<std::mutex> lock(mutex_);
  id_ = id;
  if (!cancelled_) return;
  lock.unlock();
  runner_.Cancel(id);
}

void AnalysisCancellation::Cancel() {
  std::unique_lock<std::mutex> lock(mutex_);
  cancelled_ = true;
  const uint64_t id = id_;
  lock.unlock();
  if (id != 0) runner_.Cancel(id);
}

absl::StatusOr<std::string> AnalysisApi::DataVersion(const std::vector<std::string>& names) {
  std::string version;
  for (const std::string& name : names) {
    LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(name));
    LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, backend_.store->GetSweep(id.id()));
    version += fmt::format("{} {}\n", sweep.uid, versions_.Of(sweep.key));
  }
  return version;
}

void AnalysisApi::GetAnova(UnaryCall* call, const v1::GetAnovaRequest& request, v1::GetAnovaResponse* response) {
  if (!Enter(backend_, call, access::Role::kViewer, access::CallKind::kUnary, request)) return;
  const std::shared_ptr<AnalysisCancellation> cancellation = NewCancellation();
  call->SetOnCancel([cancellation] { cancellation->Cancel(); });
  RunLater(backend_, call, [this, call, &request, response, cancellation] {
    const absl::StatusOr<std::string> version = DataVersion({request.name()});
    if (!version.ok()) return call->Answer(version.status());
    cancellation->Started(
        runner_.Run(call->open()->client(), *version, JobFor(request), [call, response](const Answer& answer) {
          absl::Status status = answer->status;
          if (status.ok() && !response->ParseFromString(answer->payload))
            status = absl::InternalError("the analysis' answer is damaged");
          call->Answer(status);
        }));
  });
}

void AnalysisApi::RenderReport(const std::string& client, const v1::RenderReportRequest& request,
                               AnalysisCancellation& cancellation, const std::function<void(const Answer&)>& done) {
  std::vector<std::string> names = {request.name()};
  names.insert(names.end(), request.with().begin(), request.with().end());
  if (!request.compare().empty()) names.push_back(request.compare());
  const absl::StatusOr<std::string> version = DataVersion(names);
  if (!version.ok()) return done(std::make_shared<const AnalysisAnswer>(AnalysisAnswer{version.status(), ""}));
  cancellation.Started(runner_.Run(client, *version, JobFor(request), done));
}

}  // namespace loupe::coordinator::api
