// One UploadArtifact that comes by gRPC.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <optional>

#include "coordinator/api/artifact_upload.h"
#include "coordinator/api/call.h"
#include "loupe/v1/worker.pb.h"

namespace loupe::coordinator::rpc {

// Lives until gRPC is done with it, and deletes itself then. One chunk is in memory; while the client's next one is
// awaited no thread is.
class UploadReactor final : public grpc::ServerReadReactor<v1::UploadArtifactRequest>, public api::CallState {
 public:
  // `response` lives as long as the call.
  static UploadReactor* Begin(const api::Backend& backend, grpc::CallbackServerContext& context,
                              v1::UploadArtifactResponse& response);

  void OnReadDone(bool ok) override;
  void OnCancel() override { NoteCancelled(); }
  void OnDone() override {
    Take();
    delete this;
  }
  // Once, on any thread.
  void End(const absl::Status& status);

 private:
  UploadReactor(const api::Backend& backend, v1::UploadArtifactResponse& response)
      : backend_(backend), response_(response), upload_(backend) {}
  // On the pool's threads, one call at a time. `ok` false: the client has sent all it had.
  void Continue(bool ok);
  absl::Status Keep();
  void ReadNext();

  const api::Backend& backend_;
  v1::UploadArtifactResponse& response_;
  v1::UploadArtifactRequest message_;
  // Gone, and with it what has arrived, before the client learns of the end.
  std::optional<api::ArtifactUpload> upload_;
};

}  // namespace loupe::coordinator::rpc
