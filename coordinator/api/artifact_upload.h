// A file on its way in from a worker, message by message (UploadArtifact in loupe/v1/worker.proto has the contract).
#pragma once

#include <memory>

#include "coordinator/api/backend.h"
#include "coordinator/scheduler/scheduler.h"
#include "loupe/v1/worker.pb.h"

namespace loupe::coordinator::api {

// What does not arrive whole is not kept. Waits for the disk and the engine; one call at a time.
class ArtifactUpload {
 public:
  // `backend` outlives it.
  explicit ArtifactUpload(const Backend& backend) : backend_(backend) {}

  // First the header, then the chunks. After an error the upload is over.
  absl::Status Take(const v1::UploadArtifactRequest& message);
  // All has been sent: the file as it is kept. ABORTED, reason LEASE_LOST, when the lease was lost on the way.
  absl::StatusOr<v1::Artifact> Finish();

 private:
  absl::Status TakeHeader(const v1::UploadArtifactRequest& message);
  absl::Status TakeChunk(const v1::UploadArtifactRequest& message);

  const Backend& backend_;
  std::unique_ptr<store::ArtifactFolder::Upload> upload_;
  scheduler::LeaseClaim claim_;
  scheduler::ArtifactRecord record_;
  int64_t received_ = 0;
};

}  // namespace loupe::coordinator::api
