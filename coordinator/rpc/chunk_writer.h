// A stream of messages to a client, made one at a time: the next one is fetched when the last one has left.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "coordinator/api/call.h"
#include "coordinator/rpc/grpc_status.h"

namespace loupe::coordinator::rpc {

// Fills the next message; false at the end. Runs on the pool's threads, one call at a time. An exception ends the
// stream with what it means (guarded.h).
template <typename Response>
using ChunkSource = std::function<absl::StatusOr<bool>(Response&)>;

// Lives until gRPC is done with it, and deletes itself then. At most one message is in memory, however slowly the
// client reads.
template <typename Response>
class ChunkWriter final : public grpc::ServerWriteReactor<Response>, public api::CallState {
 public:
  explicit ChunkWriter(const api::Backend& backend) : backend_(backend) {}

  // Exactly one of Start and End is called, once, on any thread; not before SetOpen in the case of Start.
  void Start(ChunkSource<Response> source) {
    source_ = std::move(source);
    FetchLater();
  }
  void End(const absl::Status& status) {
    HandOver();
    this->Finish(ToGrpcStatus(status));
  }

  void OnWriteDone(bool ok) override {
    TakeBack();
    if (!ok) return End(absl::CancelledError("the reader has hung up"));
    FetchLater();
  }
  void OnCancel() override { NoteCancelled(); }
  void OnDone() override {
    Take();
    delete this;
  }

 private:
  void FetchLater() {
    api::RunOnPool(
        backend_, open()->client(), [this] { Fetch(); }, [this](const absl::Status& status) { End(status); });
  }
  void Fetch() {
    if (open()->cancelled()) return End(absl::CancelledError("the reader has hung up"));
    const absl::StatusOr<bool> more = source_(message_);
    if (!more.ok() || !*more) return End(more.status());
    HandOver();
    this->StartWrite(&message_);
  }

  const api::Backend& backend_;
  ChunkSource<Response> source_;
  Response message_;
};

}  // namespace loupe::coordinator::rpc
