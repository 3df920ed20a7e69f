#include "coordinator/rpc/services.h"

#include <memory>
#include <optional>
#include <utility>

#include "common/status_macros.h"
#include "coordinator/api/convert.h"
#include "coordinator/rpc/chunk_writer.h"
#include "coordinator/rpc/upload_reactor.h"
#include "coordinator/rpc/watch_reactor.h"

namespace loupe::coordinator::rpc {
namespace {

// Small, for each transfer that is open has one in memory.
constexpr size_t kChunkBytes = 256 << 10;

}  // namespace

grpc::ServerWriteReactor<v1::WatchSweepResponse>* GrpcSweepService::WatchSweep(grpc::CallbackServerContext* context,
                                                                               const v1::WatchSweepRequest* request) {
  const std::shared_ptr<WatchReactor> reactor = WatchReactor::Start();
  const absl::Status begun = Guarded([&]() -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(std::unique_ptr<access::OpenCall> open,
                           OpenFor(backend_, *context, access::Role::kViewer, access::CallKind::kHeld, request));
    const std::string client = open->client();
    reactor->SetOpen(std::move(open));
    return api_.WatchSweep(client, *request, [reactor](absl::StatusOr<api::SweepApi::News> news) {
      return reactor->Update(std::move(news));
    });
  });
  if (!begun.ok()) reactor->End(begun);
  return reactor.get();
}

grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* GrpcTrialService::DownloadArtifact(
    grpc::CallbackServerContext* context, const v1::DownloadArtifactRequest* request) {
  auto* writer = new ChunkWriter<v1::DownloadArtifactResponse>(backend_);
  if (!Admit(writer, backend_, *context, access::Role::kViewer, request)) return writer;
  struct Progress {
    std::optional<api::ArtifactSource> source;
    int64_t sent = 0;
  };
  const absl::Status begun = Guarded([&] {
    // First its description, then its bytes.
    writer->Start([this, request = *request, progress = std::make_shared<Progress>()](
                      v1::DownloadArtifactResponse& response) -> absl::StatusOr<bool> {
      if (!progress->source) {
        LOUPE_ASSIGN_OR_RETURN(api::ArtifactSource source, api::ArtifactSource::Open(backend_, request));
        progress->source.emplace(std::move(source));
        *response.mutable_artifact() = api::ToProto(progress->source->record());
        return true;
      }
      LOUPE_RETURN_IF_ERROR(progress->source->Read(progress->sent, kChunkBytes, *response.mutable_chunk()));
      progress->sent += static_cast<int64_t>(response.chunk().size());
      return !response.chunk().empty();
    });
  });
  if (!begun.ok()) writer->End(begun);
  return writer;
}

grpc::ServerReadReactor<v1::UploadArtifactRequest>* GrpcWorkerService::UploadArtifact(
    grpc::CallbackServerContext* context, v1::UploadArtifactResponse* response) {
  return UploadReactor::Begin(backend_, *context, *response);
}

grpc::ServerWriteReactor<v1::RenderReportResponse>* GrpcAnalysisService::RenderReport(
    grpc::CallbackServerContext* context, const v1::RenderReportRequest* request) {
  auto* writer = new ChunkWriter<v1::RenderReportResponse>(backend_);
  if (!Admit(writer, backend_, *context, access::Role::kViewer, request)) return writer;
  const std::shared_ptr<api::AnalysisCancellation> cancellation = api_.NewCancellation();
  writer->SetOnCancel([cancellation] { cancellation->Cancel(); });
  const auto send = [writer](const api::AnalysisApi::Answer& answer) {
    absl::Status status = answer->status;
    if (status.ok()) status = writer->open()->Reserve(static_cast<int64_t>(answer->payload.size()));
    if (!status.ok()) return writer->End(status);
    writer->Start([answer, at = size_t{0}](v1::RenderReportResponse& response) mutable -> absl::StatusOr<bool> {
      response.set_chunk(answer->payload.substr(at, kChunkBytes));
      at += response.chunk().size();
      return !response.chunk().empty();
    });
  };
  api::RunOnPool(
      backend_, writer->open()->client(),
      [this, writer, request = *request, cancellation, send] {
        api_.RenderReport(writer->open()->client(), request, *cancellation, send);
      },
      [writer](const absl::Status& status) { writer->End(status); });
  return writer;
}

}  // namespace loupe::coordinator::rpc
