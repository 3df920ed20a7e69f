#include "coordinator/api/call.h"

#include <utility>

#include "common/error_details.h"
#include "common/status_macros.h"
#include "coordinator/api/request_limits.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

// Below it an answer is not worth counting: it fits what a client's connection buffers.
constexpr size_t kSmallAnswerBytes = 16 << 10;

// Lets the body run when its turn comes, and not before `gate` lets it; `ended` is told the outcome.
void AnswerLater(const Backend& backend, UnaryCall* call, Body body, std::function<void(const absl::Status&)> ended,
                 const Gate& gate = nullptr) {
  const auto end = [call, ended](const absl::Status& status) {
    // The audit log's trouble is not the caller's.
    Guarded([&] { ended(status); }).IgnoreError();
    call->Answer(status);
  };
  const auto job = [call, body = std::move(body), end] {
    end(call->open()->cancelled() ? absl::CancelledError("the caller has hung up") : Guarded(body));
  };
  if (!gate) return RunOnPool(backend, call->open()->client(), job, end);
  const auto passed = std::make_shared<std::atomic<bool>>(false);
  const auto open = [&backend, client = call->open()->client(), job, end, passed](const absl::Status& status) {
    if (passed->exchange(true)) return;
    status.ok() ? RunOnPool(backend, client, job, end) : end(status);
  };
  call->SetOnCancel([open] { open(absl::CancelledError("the caller has hung up")); });
  if (const absl::Status failed = Guarded([&] { gate(open); }); !failed.ok()) open(failed);
}

absl::StatusOr<std::unique_ptr<access::OpenCall>> OpenAs(const Backend& backend, access::Caller caller,
                                                         const std::string& machine, access::CallKind kind,
                                                         std::function<void()> end) {
  std::string client = ClientName(caller, machine);
  return backend.calls->Open(std::move(caller), std::move(client), kind, std::move(end));
}

}  // namespace

absl::StatusOr<std::unique_ptr<access::OpenCall>> OpenFor(const Backend& backend,
                                                          const std::function<CallOrigin()>& origin,
                                                          std::function<void()> end, access::Role role,
                                                          access::CallKind kind,
                                                          const google::protobuf::Message* request) {
  absl::StatusOr<std::unique_ptr<access::OpenCall>> open = absl::UnknownError("");
  const absl::Status status = Guarded([&]() -> absl::Status {
    const CallOrigin from = origin();
    LOUPE_ASSIGN_OR_RETURN(access::Caller caller, Admit(backend, from, role));
    if (request != nullptr) LOUPE_RETURN_IF_ERROR(CheckLimits(*request));
    open = OpenAs(backend, std::move(caller), from.machine, kind, std::move(end));
    return open.status();
  });
  if (!status.ok()) return status;
  return open;
}

absl::Status TooManyWaiting(const std::string& client) {
  return WithRetryAfter(
      WithReason(absl::ResourceExhaustedError(fmt::format("{} has too many calls waiting: try again", client)),
                 kReasonRateLimited),
      absl::Seconds(1));
}

void RunOnPool(const Backend& backend, const std::string& client, std::function<void()> job,
               std::function<void(const absl::Status&)> end) {
  const absl::Status refused = Guarded([&] {
    const bool queued = backend.pool->Submit(client, [job = std::move(job), end] {
      if (const absl::Status failed = Guarded(job); !failed.ok()) end(failed);
    });
    return queued ? absl::OkStatus() : TooManyWaiting(client);
  });
  if (!refused.ok()) end(refused);
}

void RunLater(const Backend& backend, UnaryCall* call, std::function<void()> begin) {
  RunOnPool(backend, call->open()->client(), std::move(begin),
            [call](const absl::Status& status) { call->Answer(status); });
}

void RunNow(UnaryCall* call, const std::function<void()>& begin) {
  if (const absl::Status failed = Guarded(begin); !failed.ok()) call->Answer(failed);
}

void UnaryCall::Answer(const absl::Status& status) {
  absl::Status outcome = status;
  if (outcome.ok() && open() != nullptr) {
    if (const size_t bytes = response_->ByteSizeLong(); bytes > kSmallAnswerBytes)
      outcome = Guarded([&] { return open()->Reserve(static_cast<int64_t>(bytes)); });
  }
  if (!outcome.ok()) response_->Clear();
  Send(outcome);
}

bool Enter(const Backend& backend, UnaryCall* call, access::Role role, access::CallKind kind,
           const google::protobuf::Message& request) {
  absl::StatusOr<std::unique_ptr<access::OpenCall>> open = OpenFor(
      backend, [call] { return call->origin(); }, call->MakeEnd(), role, kind, &request);
  if (!open.ok()) {
    call->Answer(open.status());
    return false;
  }
  call->SetOpen(*std::move(open));
  return true;
}

void Serve(const Backend& backend, UnaryCall* call, access::Role role, const google::protobuf::Message& request,
           Body body) {
  if (!Enter(backend, call, role, access::CallKind::kUnary, request)) return;
  RunNow(call, [&] { AnswerLater(backend, call, std::move(body), [](const absl::Status&) {}); });
}

void ServeChange(const Backend& backend, UnaryCall* call, access::Role role, const char* method,
                 const std::string& object, const google::protobuf::Message& request, Body body) {
  ServeChange(backend, call, role, method, object, request,
              CallerBody([body = std::move(body)](const access::Caller&, const std::string&) { return body(); }));
}

void ServeChange(const Backend& backend, UnaryCall* call, access::Role role, const char* method,
                 const std::string& object, const google::protobuf::Message& request, CallerBody body, Gate gate) {
  RunNow(call, [&] {
    const CallOrigin origin = call->origin();
    const absl::StatusOr<access::Caller> caller = Identify(backend, origin);
    absl::Status status = caller.ok() ? access::AccessControl::Authorize(*caller, role) : caller.status();
    if (status.ok()) status = CheckLimits(request);
    if (status.ok()) {
      absl::StatusOr<std::unique_ptr<access::OpenCall>> open =
          OpenAs(backend, *caller, origin.machine, access::CallKind::kUnary, call->MakeEnd());
      status = open.status();
      if (open.ok()) call->SetOpen(*std::move(open));
    }
    const auto audit = [&backend, caller, method, object](const absl::Status& outcome) {
      Audit(backend, caller, method, object, outcome);
    };
    if (!status.ok()) {
      audit(status);
      return call->Answer(status);
    }
    AnswerLater(
        backend, call, [call, body = std::move(body)] { return body(call->open()->caller(), call->open()->client()); },
        audit, gate);
  });
}

void Audit(const Backend& backend, const absl::StatusOr<access::Caller>& caller, const char* method,
           const std::string& object, const absl::Status& status) {
  if (!backend.audit || ReasonOf(status) == kReasonRateLimited) return;
  backend.audit(fmt::format("{} {} {} '{:.200}' {}", absl::FormatTime(backend.clock->WallNow(), absl::UTCTimeZone()),
                            caller.ok() ? caller->name : "-", method, object, absl::StatusCodeToString(status.code())));
}

}  // namespace loupe::coordinator::api
