#include "coordinator/service/analysis_service.h"

#include <memory>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/service/chunk_writer.h"
#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

constexpr size_t kReportChunkBytes = 256 << 10;

using Answer = std::shared_ptr<const AnalysisAnswer>;

// A job that has a number only once it runs, and may be cancelled before.
class Cancellation {
 public:
  explicit Cancellation(AnalysisRunner& runner) : runner_(runner) {}
  void Started(uint64_t id) {
    std::unique_lock<std::mutex> lock(mutex_);
    id_ = id;
    if (!cancelled_) return;
    lock.unlock();
    runner_.Cancel(id);
  }
  void Cancel() {
    std::unique_lock<std::mutex> lock(mutex_);
    cancelled_ = true;
    const uint64_t id = id_;
    lock.unlock();
    if (id != 0) runner_.Cancel(id);
  }

 private:
  AnalysisRunner& runner_;
  std::mutex mutex_;
  uint64_t id_ = 0;
  bool cancelled_ = false;
};

}  // namespace

absl::StatusOr<std::string> AnalysisServiceImpl::DataVersion(const std::vector<std::string>& names) {
  std::string version;
  for (const std::string& name : names) {
    LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(name));
    LOUPE_ASSIGN_OR_RETURN(const SweepRecord sweep, backend_.store->GetSweep(id.id()));
    version += fmt::format("{} {}\n", sweep.uid, versions_.Of(sweep.key));
  }
  return version;
}

grpc::ServerUnaryReactor* AnalysisServiceImpl::GetAnova(grpc::CallbackServerContext* context,
                                                        const v1::GetAnovaRequest* request,
                                                        v1::GetAnovaResponse* response) {
  auto* call = new UnaryCall(response);
  absl::StatusOr<std::unique_ptr<OpenCall>> open =
      OpenFor(backend_, *context, Role::kViewer, CallKind::kUnary, request);
  if (!open.ok()) {
    call->Answer(open.status());
    return call;
  }
  call->SetOpen(*std::move(open));
  const auto cancellation = std::make_shared<Cancellation>(runner_);
  call->SetOnCancel([cancellation] { cancellation->Cancel(); });
  RunLater(backend_, call, [this, call, request, response, cancellation] {
    const absl::StatusOr<std::string> version = DataVersion({request->name()});
    if (!version.ok()) return call->Answer(version.status());
    cancellation->Started(
        runner_.Run(call->open()->client(), *version, JobFor(*request), [call, response](const Answer& answer) {
          absl::Status status = answer->status;
          if (status.ok() && !response->ParseFromString(answer->payload))
            status = absl::InternalError("the analysis' answer is damaged");
          call->Answer(status);
        }));
  });
  return call;
}

grpc::ServerWriteReactor<v1::RenderReportResponse>* AnalysisServiceImpl::RenderReport(
    grpc::CallbackServerContext* context, const v1::RenderReportRequest* request) {
  auto* writer = new ChunkWriter<v1::RenderReportResponse>(backend_);
  absl::StatusOr<std::unique_ptr<OpenCall>> open =
      OpenFor(backend_, *context, Role::kViewer, CallKind::kStream, request);
  if (!open.ok()) {
    writer->End(open.status());
    return writer;
  }
  writer->SetOpen(*std::move(open));
  const auto cancellation = std::make_shared<Cancellation>(runner_);
  writer->SetOnCancel([cancellation] { cancellation->Cancel(); });
  const auto send = [writer](const Answer& answer) {
    absl::Status status = answer->status;
    if (status.ok()) status = writer->open()->Reserve(static_cast<int64_t>(answer->payload.size()));
    if (!status.ok()) return writer->End(status);
    writer->Start([answer, at = size_t{0}](v1::RenderReportResponse& response) mutable -> absl::StatusOr<bool> {
      response.set_chunk(answer->payload.substr(at, kReportChunkBytes));
      at += response.chunk().size();
      return !response.chunk().empty();
    });
  };
  std::vector<std::string> names = {request->name()};
  names.insert(names.end(), request->with().begin(), request->with().end());
  if (!request->compare().empty()) names.push_back(request->compare());
  RunOnPool(
      backend_, writer->open()->client(),
      [this, writer, names, job = JobFor(*request), cancellation, send] {
        const absl::StatusOr<std::string> version = DataVersion(names);
        if (!version.ok()) return writer->End(version.status());
        cancellation->Started(runner_.Run(writer->open()->client(), *version, job, send));
      },
      [writer](const absl::Status& status) { writer->End(status); });
  return writer;
}

}  // namespace loupe::coordinator
