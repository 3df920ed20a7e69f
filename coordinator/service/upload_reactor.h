// One UploadArtifact: a file on its way in, chunk by chunk.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>

#include "coordinator/service/calls.h"
#include "coordinator/store/artifact_folder.h"
#include "loupe/v1/worker.pb.h"

namespace loupe::coordinator {

// Lives until gRPC is done with it, and deletes itself then. One chunk is in memory; while the client's next one is
// awaited no thread is. What does not arrive whole is not kept.
class UploadReactor final : public grpc::ServerReadReactor<v1::UploadArtifactRequest>, public CallState {
 public:
  // `response` lives as long as the call.
  static UploadReactor* Begin(const Backend& backend, grpc::CallbackServerContext& context,
                              v1::UploadArtifactResponse& response);

  void OnReadDone(bool ok) override;
  void OnCancel() override { NoteCancelled(); }
  void OnDone() override {
    Take();
    delete this;
  }

 private:
  UploadReactor(const Backend& backend, v1::UploadArtifactResponse& response)
      : backend_(backend), response_(response) {}
  // On the pool's threads, one call at a time. `ok` false: the client has sent all it had.
  void Continue(bool ok);
  absl::Status TakeHeader();
  absl::Status TakeChunk();
  absl::Status Keep();
  void ReadNext();
  void End(const absl::Status& status);

  const Backend& backend_;
  v1::UploadArtifactResponse& response_;
  v1::UploadArtifactRequest message_;
  std::unique_ptr<ArtifactFolder::Upload> upload_;
  LeaseClaim claim_;
  ArtifactRecord record_;
  int64_t received_ = 0;
};

}  // namespace loupe::coordinator
