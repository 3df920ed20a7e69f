#include "coordinator/service/calls.h"

#include <exception>
#include <new>
#include <utility>

#include "common/error_details.h"
#include "common/status_macros.h"
#include "coordinator/service/request_limits.h"
#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

// Below it an answer is not worth counting: it fits what a client's connection buffers.
constexpr size_t kSmallAnswerBytes = 16 << 10;

absl::StatusOr<std::unique_ptr<OpenCall>> Enter(const Backend& backend, grpc::CallbackServerContext& context,
                                                Caller caller, CallKind kind) {
  std::string client = ClientName(caller, context);
  return backend.calls->Open(std::move(caller), std::move(client), kind, [&context] { context.TryCancel(); });
}

// What a body returns; an exception that leaves it is an answer too.
absl::Status RunBody(const UnaryCall& call, const Body& body) {
  if (call.open()->cancelled()) return absl::CancelledError("the caller has hung up");
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("the coordinator is short of memory: try again");
  } catch (const std::exception& error) {
    return absl::InternalError(fmt::format("the call failed: {}", error.what()));
  }
}

// Lets the body run when its turn comes; `ended` is told the outcome.
void AnswerLater(const Backend& backend, UnaryCall* call, Body body, std::function<void(const absl::Status&)> ended) {
  const auto job = [call, body = std::move(body), ended] {
    const absl::Status status = RunBody(*call, body);
    ended(status);
    call->Answer(status);
  };
  if (backend.pool->Submit(call->open()->client(), job)) return;
  const absl::Status status = TooManyWaiting(call->open()->client());
  ended(status);
  call->Answer(status);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OpenCall>> OpenFor(const Backend& backend, grpc::CallbackServerContext& context,
                                                  Role role, CallKind kind, const google::protobuf::Message* request) {
  LOUPE_ASSIGN_OR_RETURN(Caller caller, Admit(backend, context, role));
  if (request != nullptr) LOUPE_RETURN_IF_ERROR(CheckLimits(*request));
  return Enter(backend, context, std::move(caller), kind);
}

absl::Status TooManyWaiting(const std::string& client) {
  return WithRetryAfter(
      WithReason(absl::ResourceExhaustedError(fmt::format("{} has too many calls waiting: try again", client)),
                 kReasonRateLimited),
      absl::Seconds(1));
}

void RunLater(const Backend& backend, UnaryCall* call, std::function<void()> begin) {
  const std::string client = call->open()->client();
  if (!backend.pool->Submit(client, std::move(begin))) call->Answer(TooManyWaiting(client));
}

void UnaryCall::Answer(const absl::Status& status) {
  absl::Status outcome = status;
  if (outcome.ok() && open() != nullptr) {
    if (const size_t bytes = response_->ByteSizeLong(); bytes > kSmallAnswerBytes)
      outcome = open()->Reserve(static_cast<int64_t>(bytes));
  }
  if (!outcome.ok()) response_->Clear();
  HandOver();
  Finish(ToGrpcStatus(outcome));
}

grpc::ServerUnaryReactor* Serve(const Backend& backend, grpc::CallbackServerContext* context, Role role,
                                const google::protobuf::Message& request, google::protobuf::Message* response,
                                Body body) {
  auto* call = new UnaryCall(response);
  absl::StatusOr<std::unique_ptr<OpenCall>> open = OpenFor(backend, *context, role, CallKind::kUnary, &request);
  if (!open.ok()) {
    call->Answer(open.status());
    return call;
  }
  call->SetOpen(*std::move(open));
  AnswerLater(backend, call, std::move(body), [](const absl::Status&) {});
  return call;
}

grpc::ServerUnaryReactor* ServeChange(const Backend& backend, grpc::CallbackServerContext* context, Role role,
                                      const char* method, const std::string& object,
                                      const google::protobuf::Message& request, google::protobuf::Message* response,
                                      Body body) {
  return ServeChange(backend, context, role, method, object, request, response,
                     ClientBody([body = std::move(body)](const std::string&) { return body(); }));
}

grpc::ServerUnaryReactor* ServeChange(const Backend& backend, grpc::CallbackServerContext* context, Role role,
                                      const char* method, const std::string& object,
                                      const google::protobuf::Message& request, google::protobuf::Message* response,
                                      ClientBody body) {
  auto* call = new UnaryCall(response);
  const absl::StatusOr<Caller> caller = Identify(backend, *context);
  absl::Status status = caller.ok() ? AccessControl::Authorize(*caller, role) : caller.status();
  if (status.ok()) status = CheckLimits(request);
  if (status.ok()) {
    absl::StatusOr<std::unique_ptr<OpenCall>> open = Enter(backend, *context, *caller, CallKind::kUnary);
    status = open.status();
    if (open.ok()) call->SetOpen(*std::move(open));
  }
  const auto audit = [&backend, caller, method, object](const absl::Status& outcome) {
    Audit(backend, caller, method, object, outcome);
  };
  if (!status.ok()) {
    audit(status);
    call->Answer(status);
    return call;
  }
  AnswerLater(
      backend, call, [call, body = std::move(body)] { return body(call->open()->client()); }, audit);
  return call;
}

void Audit(const Backend& backend, const absl::StatusOr<Caller>& caller, const char* method, const std::string& object,
           const absl::Status& status) {
  if (!backend.audit || ReasonOf(status) == kReasonRateLimited) return;
  backend.audit(fmt::format("{} {} {} '{:.200}' {}", absl::FormatTime(backend.clock->WallNow(), absl::UTCTimeZone()),
                            caller.ok() ? caller->name : "-", method, object, absl::StatusCodeToString(status.code())));
}

}  // namespace loupe::coordinator
