#include "coordinator/service/upload_reactor.h"

#include <utility>

#include "common/status_macros.h"
#include "coordinator/service/convert.h"
#include "coordinator/service/request_limits.h"
#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

constexpr size_t kMaxChunkBytes = (1 << 20) + 1024;

}  // namespace

UploadReactor* UploadReactor::Begin(const Backend& backend, grpc::CallbackServerContext& context,
                                    v1::UploadArtifactResponse& response) {
  auto* reactor = new UploadReactor(backend, response);
  absl::StatusOr<std::unique_ptr<OpenCall>> open =
      OpenFor(backend, context, Role::kWorker, CallKind::kStream, /*request=*/nullptr);
  if (!open.ok()) {
    reactor->End(open.status());
    return reactor;
  }
  reactor->SetOpen(*std::move(open));
  reactor->ReadNext();
  return reactor;
}

void UploadReactor::ReadNext() {
  HandOver();
  StartRead(&message_);
}

void UploadReactor::End(const absl::Status& status) {
  upload_.reset();
  HandOver();
  Finish(ToGrpcStatus(status));
}

void UploadReactor::OnReadDone(bool ok) {
  TakeBack();
  RunOnPool(
      backend_, open()->client(), [this, ok] { Continue(ok); }, [this](const absl::Status& status) { End(status); });
}

void UploadReactor::Continue(bool ok) {
  // A call that was cut off looks like one whose client is done.
  if (open()->cancelled()) return End(absl::CancelledError("the sender has hung up, or sent nothing for too long"));
  if (!ok) return End(Keep());
  const absl::Status status = upload_ == nullptr ? TakeHeader() : TakeChunk();
  if (!status.ok()) return End(status);
  ReadNext();
}

absl::Status UploadReactor::TakeHeader() {
  if (!message_.has_header()) return absl::InvalidArgumentError("the first message of an upload must be its header");
  LOUPE_RETURN_IF_ERROR(CheckLimits(message_));
  const v1::Artifact& artifact = message_.header().artifact();
  LOUPE_ASSIGN_OR_RETURN(claim_, FromProto(message_.header().lease()));
  LOUPE_RETURN_IF_ERROR(CheckArtifactName(artifact.name()));
  LOUPE_RETURN_IF_ERROR(backend_.artifacts->PathOf(artifact.sha256()).status());
  if (artifact.size_bytes() < 0 || artifact.size_bytes() > backend_.limits.max_artifact_bytes) {
    return absl::InvalidArgumentError(fmt::format("artifact '{}' has {} bytes: expected 0 to {}", artifact.name(),
                                                  artifact.size_bytes(), backend_.limits.max_artifact_bytes));
  }
  record_ = {.name = artifact.name(),
             .media_type = artifact.media_type().substr(0, 128),
             .size_bytes = artifact.size_bytes(),
             .sha256 = artifact.sha256(),
             .epoch = claim_.epoch};
  // Refused before the bytes come, and again when they are there: the lease may be lost in between.
  const auto check = [claim = claim_](Scheduler& scheduler, const Now&, Effects&) {
    return scheduler.CheckLease(claim);
  };
  LOUPE_RETURN_IF_ERROR(backend_.engine->Call<TrialKey>(check).status());
  LOUPE_ASSIGN_OR_RETURN(upload_, backend_.artifacts->Begin());
  return absl::OkStatus();
}

absl::Status UploadReactor::TakeChunk() {
  received_ += static_cast<int64_t>(message_.chunk().size());
  if (message_.has_header() || message_.chunk().size() > kMaxChunkBytes || received_ > record_.size_bytes) {
    return absl::InvalidArgumentError(
        "after its header an upload has chunks of at most 1 MiB, and no more bytes than announced");
  }
  return upload_->Append(message_.chunk());
}

absl::Status UploadReactor::Keep() {
  if (upload_ == nullptr) return absl::InvalidArgumentError("the first message of an upload must be its header");
  LOUPE_RETURN_IF_ERROR(upload_->Finish(record_.size_bytes, record_.sha256));
  LOUPE_RETURN_IF_ERROR(backend_.engine
                            ->Call<bool>([claim = claim_, record = record_](Scheduler& scheduler, const Now&,
                                                                            Effects& effects) -> absl::StatusOr<bool> {
                              LOUPE_RETURN_IF_ERROR(scheduler.OnArtifact(claim, record, effects));
                              return true;
                            })
                            .status());
  *response_.mutable_artifact() = ToProto(record_);
  return absl::OkStatus();
}

}  // namespace loupe::coordinator
