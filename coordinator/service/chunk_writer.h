// A stream of messages to a client, made one at a time: the next one is fetched when the last one has left.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "coordinator/service/calls.h"

namespace loupe::coordinator {

// Fills the next message; false at the end. Runs on the pool's threads, one call at a time.
template <typename Response>
using ChunkSource = std::function<absl::StatusOr<bool>(Response&)>;

// Lives until gRPC is done with it, and deletes itself then. At most one message is in memory, however slowly the client reads.
template <typename Response>
class ChunkWriter final : public grpc::ServerWriteReactor<Response> {
 public:
  explicit ChunkWriter(const Backend& backend) : backend_(backend) {}

  // Exactly one of Start and End is called, once, on any thread; not before SetOpen in the case of Start.
  void SetOpen(std::unique_ptr<OpenCall> open) {
    open_ = std::move(open);
    order_.Give();
  }
  OpenCall* open() const { return open_.get(); }
  void Start(ChunkSource<Response> source) {
    source_ = std::move(source);
    FetchLater();
  }
  void End(const absl::Status& status) {
    if (open_ != nullptr) open_->AwaitClient();
    order_.Give();
    this->Finish(ToGrpcStatus(status));
  }

  void OnWriteDone(bool ok) override {
    order_.Take();
    open_->ClientMoved();
    if (!ok) return End(absl::CancelledError("the reader has hung up"));
    FetchLater();
  }
  void OnCancel() override {
    order_.Take();
    if (open_ != nullptr) open_->MarkCancelled();
    if (on_cancel_) on_cancel_();
    order_.Give();
  }
  void OnDone() override {
    order_.Take();
    delete this;
  }
  // Before the method returns.
  void SetOnCancel(std::function<void()> on_cancel) {
    on_cancel_ = std::move(on_cancel);
    order_.Give();
  }

 private:
  void FetchLater() {
    if (backend_.pool->Submit(open_->client(), [this] { Fetch(); })) return;
    End(TooManyWaiting(open_->client()));
  }
  void Fetch() {
    if (open_->cancelled()) return End(absl::CancelledError("the reader has hung up"));
    const absl::StatusOr<bool> more = source_(message_);
    if (!more.ok() || !*more) return End(more.status());
    open_->AwaitClient();
    order_.Give();
    this->StartWrite(&message_);
  }

  const Backend& backend_;
  std::unique_ptr<OpenCall> open_;
  ChunkSource<Response> source_;
  Response message_;
  std::function<void()> on_cancel_;
  CallOrder order_;
};

}  // namespace loupe::coordinator
