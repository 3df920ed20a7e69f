#include "worker/agent/grpc_coordinator_client.h"

#include <fstream>
#include <utility>
#include <vector>

#include "clients/rpc/message_text.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker::agent {
namespace {

// Well under the 4 MB message limit, large enough that a sheet is a handful of messages.
constexpr size_t kChunkBytes = 256 * 1024;

}  // namespace

GrpcCoordinatorClient::GrpcCoordinatorClient(std::shared_ptr<clients::rpc::Connection> connection)
    : connection_(std::move(connection)), stub_(v1::WorkerService::NewStub(connection_->channel())) {}

absl::StatusOr<v1::SynchronizeResponse> GrpcCoordinatorClient::Synchronize(const v1::SynchronizeRequest& request,
                                                                           absl::Duration timeout) {
  grpc::ClientContext context;
  connection_->Prepare(context, timeout);
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(interrupted_, false)) return absl::CancelledError("interrupted");
    synchronizing_ = &context;
  }
  // Failures hold names of files and texts of exceptions: whatever their bytes are, the report must arrive.
  v1::SynchronizeRequest escaped;
  const bool is_text = clients::rpc::FieldNotUtf8(request).empty();
  if (!is_text) {
    escaped = request;
    clients::rpc::EscapeFieldsNotUtf8(escaped);
  }
  v1::SynchronizeResponse response;
  const grpc::Status status = stub_->Synchronize(&context, is_text ? request : escaped, &response);
  {
    const std::lock_guard lock(mutex_);
    synchronizing_ = nullptr;
  }
  if (!status.ok()) return connection_->Check(status);
  return response;
}

absl::Status GrpcCoordinatorClient::Upload(const v1::LeaseKey& lease, const ArtifactFile& file,
                                           absl::Duration timeout) {
  LOUPE_ASSIGN_OR_RETURN(const std::string digest, Sha256HexOfFile(file.path));
  std::ifstream stream(file.path, std::ios::binary | std::ios::ate);
  if (!stream) return absl::NotFoundError(fmt::format("{}: cannot be opened for the upload", file.path));
  const int64_t size = stream.tellg();
  stream.seekg(0);

  grpc::ClientContext context;
  connection_->Prepare(context, timeout);
  v1::UploadArtifactResponse response;
  const auto writer = stub_->UploadArtifact(&context, &response);
  v1::UploadArtifactRequest message;
  *message.mutable_header()->mutable_lease() = lease;
  auto& artifact = *message.mutable_header()->mutable_artifact();
  artifact.set_name(file.name);
  artifact.set_media_type(file.media_type);
  artifact.set_size_bytes(size);
  artifact.set_sha256(digest);
  artifact.set_epoch(lease.epoch());
  clients::rpc::EscapeFieldsNotUtf8(message);

  // A refused Write means that the server has already answered; Finish says what.
  bool open = writer->Write(message);
  std::vector<char> buffer(kChunkBytes);
  while (open && stream) {
    stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    const auto got = static_cast<size_t>(stream.gcount());
    if (got == 0) break;
    message.set_chunk(std::string(buffer.data(), got));
    open = writer->Write(message);
  }
  writer->WritesDone();
  return Annotate(connection_->Check(writer->Finish()), fmt::format("uploading {}", file.name));
}

void GrpcCoordinatorClient::Interrupt() {
  const std::lock_guard lock(mutex_);
  if (synchronizing_ != nullptr) {
    synchronizing_->TryCancel();
  } else {
    interrupted_ = true;
  }
}

}  // namespace loupe::worker::agent
