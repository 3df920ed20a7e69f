#include "coordinator/rpc/upload_reactor.h"

#include <utility>

#include "common/status_macros.h"
#include "coordinator/rpc/unary_reactor.h"

namespace loupe::coordinator::rpc {

UploadReactor* UploadReactor::Begin(const api::Backend& backend, grpc::CallbackServerContext& context,
                                    v1::UploadArtifactResponse& response) {
  auto* reactor = new UploadReactor(backend, response);
  if (Admit(reactor, backend, context, access::Role::kWorker, /*request=*/nullptr)) reactor->ReadNext();
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
  api::RunOnPool(
      backend_, open()->client(), [this, ok] { Continue(ok); }, [this](const absl::Status& status) { End(status); });
}

void UploadReactor::Continue(bool ok) {
  // A call that was cut off looks like one whose client is done.
  if (open()->cancelled()) return End(absl::CancelledError("the sender has hung up, or sent nothing for too long"));
  if (!ok) return End(Keep());
  if (const absl::Status status = upload_->Take(message_); !status.ok()) return End(status);
  ReadNext();
}

absl::Status UploadReactor::Keep() {
  LOUPE_ASSIGN_OR_RETURN(*response_.mutable_artifact(), upload_->Finish());
  return absl::OkStatus();
}

}  // namespace loupe::coordinator::rpc
