// The frame of every method: who calls, whether it may, whether it has room; then the body on the pool's threads, and
// the answer.
//
// No call ever holds a thread while it waits for its client: requests are complete before their body runs, and answers
// leave by callbacks. A body may wait for the engine or the store.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/service/backend.h"
#include "coordinator/service/guarded.h"
#include "coordinator/service/open_calls.h"

namespace loupe::coordinator {

// Whoever calls, admitted for `role` and entered among the open calls. UNAUTHENTICATED, PERMISSION_DENIED,
// RESOURCE_EXHAUSTED with the reason RATE_LIMITED, or INVALID_ARGUMENT for a request that CheckLimits refuses (null:
// its messages come later).
absl::StatusOr<std::unique_ptr<OpenCall>> OpenFor(const Backend& backend, grpc::CallbackServerContext& context,
                                                  Role role, CallKind kind, const google::protobuf::Message* request);

// What every reactor of ours keeps of its call: its entry among the open calls, who else wants to know of its end, and
// an order.
//
// gRPC calls a reactor back in order: what one callback, or the method itself, has written is there for the next. That
// order is made here once more, where tools see it that do not see inside gRPC.
class CallState {
 public:
  // From before the call's first operation on; null where the caller was not admitted.
  void SetOpen(std::unique_ptr<OpenCall> open) {
    open_ = std::move(open);
    Give();
  }
  OpenCall* open() const { return open_.get(); }
  // For calls that something else holds; set before the call can be cancelled, that is before the method returns.
  void SetOnCancel(std::function<void()> on_cancel) {
    on_cancel_ = std::move(on_cancel);
    Give();
  }

 protected:
  // Before each operation that leaves the call to gRPC and its client, the last one included.
  void HandOver() {
    if (open_ != nullptr) open_->AwaitClient();
    Give();
  }
  // First thing when such an operation is done.
  void TakeBack() {
    Take();
    open_->ClientMoved();
  }
  // OnCancel.
  void NoteCancelled() {
    Take();
    if (open_ != nullptr) open_->MarkCancelled();
    // A call that cannot be let go now is answered when its time is over.
    if (on_cancel_) Guarded(on_cancel_).IgnoreError();
    Give();
  }
  // First thing in OnDone.
  void Take() { steps_.load(std::memory_order_acquire); }

 private:
  void Give() { steps_.fetch_add(1, std::memory_order_acq_rel); }

  std::unique_ptr<OpenCall> open_;
  std::function<void()> on_cancel_;
  std::atomic<uint32_t> steps_{0};
};

// One unary call: lives until gRPC is done with it, and deletes itself then. Answer is called exactly once, on any
// thread.
class UnaryCall final : public grpc::ServerUnaryReactor, public CallState {
 public:
  // `response` lives until the call is done; it is emptied where it cannot be sent.
  explicit UnaryCall(google::protobuf::Message* response) : response_(response) {}

  void Answer(const absl::Status& status);

  void OnCancel() override { NoteCancelled(); }
  void OnDone() override {
    Take();
    delete this;
  }

 private:
  google::protobuf::Message* const response_;
};

// Runs on a thread of the pool; request and response live until it returns.
using Body = std::function<absl::Status()>;

// A method that reads. INVALID_ARGUMENT for a request that CheckLimits refuses.
grpc::ServerUnaryReactor* Serve(const Backend& backend, grpc::CallbackServerContext* context, Role role,
                                const google::protobuf::Message& request, google::protobuf::Message* response,
                                Body body);
// A method that changes something: its outcome goes to the audit log under `method` and `object`.
grpc::ServerUnaryReactor* ServeChange(const Backend& backend, grpc::CallbackServerContext* context, Role role,
                                      const char* method, const std::string& object,
                                      const google::protobuf::Message& request, google::protobuf::Message* response,
                                      Body body);
// The same for a body that is told whose call it is (OpenCall::client): what it begins takes turns with what others
// begin.
using ClientBody = std::function<absl::Status(const std::string& client)>;
// What the body waits for, without a thread: calls `open` once, on any thread, when the body may run (OK) or why it is
// not to. More calls of `open` are ignored; a call that ends before is answered by itself.
using Gate = std::function<void(std::function<void(const absl::Status&)> open)>;
grpc::ServerUnaryReactor* ServeChange(const Backend& backend, grpc::CallbackServerContext* context, Role role,
                                      const char* method, const std::string& object,
                                      const google::protobuf::Message& request, google::protobuf::Message* response,
                                      ClientBody body, Gate gate = nullptr);

// Has `job`, a part of a client's call, run on a thread of the pool. `end` is told when it cannot (too many wait), and
// what an exception that left it means: it ends the call. Itself lets no exception through.
void RunOnPool(const Backend& backend, const std::string& client, std::function<void()> job,
               std::function<void(const absl::Status&)> end);
// For methods whose answer comes from elsewhere: `begin` runs on a thread of the pool, and sees to it that `call` is
// answered, as its last act. It is answered here when RunOnPool ends it.
void RunLater(const Backend& backend, UnaryCall* call, std::function<void()> begin);
// The same at once: the call is answered here when an exception leaves `begin`.
void RunNow(UnaryCall* call, const std::function<void()>& begin);
// RESOURCE_EXHAUSTED, reason RATE_LIMITED.
absl::Status TooManyWaiting(const std::string& client);

// One line for the audit log. Calls that were held back for their number leave none: they could fill the disk.
void Audit(const Backend& backend, const absl::StatusOr<Caller>& caller, const char* method, const std::string& object,
           const absl::Status& status);

}  // namespace loupe::coordinator
