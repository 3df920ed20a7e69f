// The frame of every method: who calls, whether it may, whether it has room; then the body on the pool's threads, and
// the answer. Front ends (grpc/, http/) bring calls and send answers; nothing here knows which one.
//
// No call ever holds a thread while it waits for its client: requests are complete before their body runs, and answers
// leave by callbacks. A body may wait for the engine or the store.
#pragma once

#include <google/protobuf/message.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/guarded.h"
#include "coordinator/access/open_calls.h"
#include "coordinator/api/backend.h"

namespace loupe::coordinator::api {

// Whoever calls, admitted for `role` and entered among the open calls. UNAUTHENTICATED, PERMISSION_DENIED,
// RESOURCE_EXHAUSTED with the reason RATE_LIMITED, or INVALID_ARGUMENT for a request that CheckLimits refuses (null:
// its messages come later). `origin` is called where an exception is caught; `end` as OpenCalls::Open says.
absl::StatusOr<std::unique_ptr<access::OpenCall>> OpenFor(const Backend& backend,
                                                          const std::function<CallOrigin()>& origin,
                                                          std::function<void()> end, access::Role role,
                                                          access::CallKind kind,
                                                          const google::protobuf::Message* request);

// What every call keeps besides its messages: its entry among the open calls, who else wants to know of its end, and an
// order.
//
// A front end calls back in order: what one callback, or the method itself, has written is there for the next. That
// order is made here once more, where tools see it that do not see inside gRPC.
class CallState {
 public:
  // From before the call's first operation on; null where the caller was not admitted.
  void SetOpen(std::unique_ptr<access::OpenCall> open) {
    open_ = std::move(open);
    Give();
  }
  access::OpenCall* open() const { return open_.get(); }
  // For calls that something else holds; set before the call can be cancelled, that is before the method returns.
  void SetOnCancel(std::function<void()> on_cancel) {
    on_cancel_ = std::move(on_cancel);
    Give();
  }

 protected:
  // Before each operation that leaves the call to its client, the last one included.
  void HandOver() {
    if (open_ != nullptr) open_->AwaitClient();
    Give();
  }
  // First thing when such an operation is done.
  void TakeBack() {
    Take();
    open_->ClientMoved();
  }
  // The client has gone, or somebody ended the call.
  void NoteCancelled() {
    Take();
    if (open_ != nullptr) open_->MarkCancelled();
    // A call that cannot be let go now is answered when its time is over.
    if (on_cancel_) Guarded(on_cancel_).IgnoreError();
    Give();
  }
  // First thing when the call is over.
  void Take() { steps_.load(std::memory_order_acquire); }

 private:
  void Give() { steps_.fetch_add(1, std::memory_order_acq_rel); }

  std::unique_ptr<access::OpenCall> open_;
  std::function<void()> on_cancel_;
  std::atomic<uint32_t> steps_{0};
};

// One unary call, whatever front end brought it; the front end owns it and keeps it until its answer has left. Answer
// is called exactly once, on any thread.
class UnaryCall : public CallState {
 public:
  // `response` lives until the call is done; it is emptied where it cannot be sent.
  explicit UnaryCall(google::protobuf::Message* response) : response_(response) {}
  virtual ~UnaryCall() = default;
  UnaryCall(const UnaryCall&) = delete;
  UnaryCall& operator=(const UnaryCall&) = delete;

  // The call may be gone when it returns.
  void Answer(const absl::Status& status);

  virtual CallOrigin origin() const = 0;
  // What ends the call at its front end, which then notes it as cancelled. Called on any thread while the call is open,
  // its destruction included: it must not need the call itself, be quick, and call nothing here.
  virtual std::function<void()> MakeEnd() const = 0;

 protected:
  // Sends the response, or `status` where it is not OK; calls HandOver just before the operation that may end the call.
  virtual void Send(const absl::Status& status) = 0;
  google::protobuf::Message& response() const { return *response_; }

 private:
  google::protobuf::Message* const response_;
};

// Runs on a thread of the pool; request and response live until it returns.
using Body = std::function<absl::Status()>;

// A method that reads. INVALID_ARGUMENT for a request that CheckLimits refuses.
void Serve(const Backend& backend, UnaryCall* call, access::Role role, const google::protobuf::Message& request,
           Body body);
// A method that changes something: its outcome goes to the audit log under `method` and `object`.
void ServeChange(const Backend& backend, UnaryCall* call, access::Role role, const char* method,
                 const std::string& object, const google::protobuf::Message& request, Body body);
// The same for a body that is told whose call it is: its token (OpenCall::caller), and its client (OpenCall::client),
// as which what it begins takes turns with what others begin.
using CallerBody = std::function<absl::Status(const access::Caller& caller, const std::string& client)>;
// What the body waits for, without a thread: calls `open` once, on any thread, when the body may run (OK) or why it is
// not to. More calls of `open` are ignored; a call that ends before is answered by itself.
using Gate = std::function<void(std::function<void(const absl::Status&)> open)>;
void ServeChange(const Backend& backend, UnaryCall* call, access::Role role, const char* method,
                 const std::string& object, const google::protobuf::Message& request, CallerBody body,
                 Gate gate = nullptr);

// Admits a call whose answer comes from elsewhere; false when it has been answered with why it is not admitted.
bool Enter(const Backend& backend, UnaryCall* call, access::Role role, access::CallKind kind,
           const google::protobuf::Message& request);

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
void Audit(const Backend& backend, const absl::StatusOr<access::Caller>& caller, const char* method,
           const std::string& object, const absl::Status& status);

}  // namespace loupe::coordinator::api
