#include "worker/agent/grpc_coordinator_client.h"

#include <chrono>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace loupe::worker {
namespace {

// Well under the 4 MB message limit, large enough that a sheet is a handful of messages.
constexpr size_t kChunkBytes = 256 * 1024;

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status converted(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const auto& any : details.details()) converted.SetPayload(any.type_url(), absl::Cord(any.value()));
  }
  return converted;
}

}  // namespace

std::string ErrorReason(const absl::Status& status) {
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.ErrorInfo");
  google::rpc::ErrorInfo info;
  if (!payload.has_value() || !info.ParseFromString(std::string(*payload))) return {};
  return info.reason();
}

GrpcCoordinatorClient::GrpcCoordinatorClient(std::shared_ptr<grpc::Channel> channel, PrepareContext prepare)
    : GrpcCoordinatorClient(v1::WorkerService::NewStub(channel), std::move(prepare)) {}

GrpcCoordinatorClient::GrpcCoordinatorClient(std::unique_ptr<v1::WorkerService::StubInterface> stub,
                                             PrepareContext prepare)
    : stub_(std::move(stub)), prepare_(std::move(prepare)) {}

void GrpcCoordinatorClient::Prepare(grpc::ClientContext& context, absl::Duration timeout) const {
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoNanoseconds(timeout));
  if (prepare_) prepare_(context);
}

absl::StatusOr<v1::SynchronizeResponse> GrpcCoordinatorClient::Synchronize(const v1::SynchronizeRequest& request,
                                                                           absl::Duration timeout) {
  grpc::ClientContext context;
  Prepare(context, timeout);
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(interrupted_, false)) return absl::CancelledError("interrupted");
    synchronizing_ = &context;
  }
  v1::SynchronizeResponse response;
  const grpc::Status status = stub_->Synchronize(&context, request, &response);
  {
    const std::lock_guard lock(mutex_);
    synchronizing_ = nullptr;
  }
  if (!status.ok()) return FromGrpc(status);
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
  Prepare(context, timeout);
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
  return Annotate(FromGrpc(writer->Finish()), fmt::format("uploading {}", file.name));
}

void GrpcCoordinatorClient::Interrupt() {
  const std::lock_guard lock(mutex_);
  if (synchronizing_ != nullptr) {
    synchronizing_->TryCancel();
  } else {
    interrupted_ = true;
  }
}

}  // namespace loupe::worker
