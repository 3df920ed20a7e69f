#include "coordinator/api/artifact_upload.h"

#include "common/status_macros.h"
#include "coordinator/api/convert.h"
#include "coordinator/api/request_limits.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

constexpr size_t kMaxChunkBytes = (1 << 20) + 1024;

}  // namespace

absl::Status ArtifactUpload::Take(const v1::UploadArtifactRequest& message) {
  return upload_ == nullptr ? TakeHeader(message) : TakeChunk(message);
}

absl::Status ArtifactUpload::TakeHeader(const v1::UploadArtifactRequest& message) {
  if (!message.has_header()) return absl::InvalidArgumentError("the first message of an upload must be its header");
  LOUPE_RETURN_IF_ERROR(CheckLimits(message));
  const v1::Artifact& artifact = message.header().artifact();
  LOUPE_ASSIGN_OR_RETURN(claim_, FromProto(message.header().lease()));
  LOUPE_RETURN_IF_ERROR(store::CheckArtifactName(artifact.name()));
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
  const auto check = [claim = claim_](scheduler::Scheduler& scheduler, const scheduler::Now&, scheduler::Effects&) {
    return scheduler.CheckLease(claim);
  };
  LOUPE_RETURN_IF_ERROR(backend_.engine->Call<scheduler::TrialKey>(check).status());
  LOUPE_ASSIGN_OR_RETURN(upload_, backend_.artifacts->Begin());
  return absl::OkStatus();
}

absl::Status ArtifactUpload::TakeChunk(const v1::UploadArtifactRequest& message) {
  received_ += static_cast<int64_t>(message.chunk().size());
  if (message.has_header() || message.chunk().size() > kMaxChunkBytes || received_ > record_.size_bytes) {
    return absl::InvalidArgumentError(
        "after its header an upload has chunks of at most 1 MiB, and no more bytes than announced");
  }
  return upload_->Append(message.chunk());
}

absl::StatusOr<v1::Artifact> ArtifactUpload::Finish() {
  if (upload_ == nullptr) return absl::InvalidArgumentError("the first message of an upload must be its header");
  LOUPE_RETURN_IF_ERROR(upload_->Finish(record_.size_bytes, record_.sha256));
  LOUPE_RETURN_IF_ERROR(
      backend_.engine
          ->Call<bool>([claim = claim_, record = record_](scheduler::Scheduler& scheduler, const scheduler::Now&,
                                                          scheduler::Effects& effects) -> absl::StatusOr<bool> {
            LOUPE_RETURN_IF_ERROR(scheduler.OnArtifact(claim, record, effects));
            return true;
          })
          .status());
  return ToProto(record_);
}

}  // namespace loupe::coordinator::api
