#include "coordinator/http/connect_call.h"

#include <google/protobuf/util/json_util.h>

#include <atomic>
#include <utility>

#include "absl/strings/numbers.h"
#include "coordinator/api/call.h"
#include "coordinator/http/compress.h"
#include "coordinator/http/errors.h"
#include "coordinator/http/sign_in.h"
#include "fmt/format.h"

namespace loupe::coordinator::http {
namespace {

using google::protobuf::Message;

// What is larger is read and written on the pool's threads, not on the one that everybody's bytes go through.
constexpr size_t kSmallBytes = 16 << 10;
constexpr char kJson[] = "application/json";
constexpr char kProto[] = "application/proto";

// "application/json; charset=utf-8" without what follows.
std::string_view MediaType(std::string_view header) {
  header = header.substr(0, header.find(';'));
  while (header.ends_with(' ')) header.remove_suffix(1);
  return header;
}

// One call; owns itself until its answer has left.
class HttpCall final : public api::UnaryCall, public std::enable_shared_from_this<HttpCall> {
 public:
  HttpCall(const api::Backend& backend, const Method& method, int port, bool json, std::shared_ptr<Exchange> exchange,
           std::unique_ptr<Message> answer)
      : api::UnaryCall(answer.get()),
        backend_(backend),
        method_(method),
        port_(port),
        json_(json),
        exchange_(std::move(exchange)),
        request_(method.request_prototype->New()),
        answer_(std::move(answer)) {}

  // Reads the message and hands the call to its method. Who sends what is no message has used up a call too.
  void Start() {
    if (const absl::Status parsed = Parse(); !parsed.ok()) {
      const absl::Status known = api::Identify(backend_, origin()).status();
      return exchange_->Respond(ErrorResponse(known.ok() ? parsed : known));
    }
    self_ = shared_from_this();
    const std::shared_ptr<HttpCall> held = self_;
    api::RunNow(this, [this] { method_.call(this, *request_, answer_.get()); });
    // Only now: the method has said whom a cancelled call concerns.
    exchange_->OnGone([weak = weak_from_this()] {
      if (const auto call = weak.lock()) call->NoteCancelled();
    });
    if (timeout_ < absl::InfiniteDuration()) {
      exchange_->After(timeout_, [weak = weak_from_this()] {
        const auto call = weak.lock();
        if (call == nullptr) return;
        call->late_ = true;
        call->NoteCancelled();
      });
    }
  }

  void SetTimeout(absl::Duration timeout) { timeout_ = timeout; }
  api::CallOrigin origin() const override { return OriginOf(exchange_->request(), port_); }
  std::function<void()> MakeEnd() const override {
    return [exchange = std::weak_ptr<Exchange>(exchange_)] {
      if (const auto held = exchange.lock()) held->Abort();
    };
  }

 private:
  absl::Status Parse() {
    const std::string& body = exchange_->request().body;
    const std::string& type = request_->GetDescriptor()->full_name();
    if (!json_) {
      if (request_->ParseFromString(body)) return absl::OkStatus();
      return absl::InvalidArgumentError(fmt::format("the body is no {}", type));
    }
    // An unknown field is an error, as in a sweep file: it would be left out in silence.
    const auto parsed = google::protobuf::util::JsonStringToMessage(body.empty() ? "{}" : body, request_.get());
    if (parsed.ok()) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format("the body is no {} in JSON: {}", type, parsed.message().ToString()));
  }

  void Send(const absl::Status& status) override {
    HandOver();
    const std::shared_ptr<HttpCall> self = std::move(self_);
    const bool is_late = late_ && absl::IsCancelled(status);
    const absl::Status outcome =
        is_late ? absl::DeadlineExceededError("the call took longer than Connect-Timeout-Ms allows") : status;
    if (outcome.ok() && answer_->ByteSizeLong() > kSmallBytes &&
        backend_.pool->Submit(open()->client(), [self] { self->Respond(absl::OkStatus()); })) {
      return;
    }
    Respond(outcome);
  }

  void Respond(const absl::Status& status) {
    Response response;
    const absl::Status made = Guarded([&]() -> absl::Status {
      if (!status.ok()) return status;
      response.headers = {{"Content-Type", json_ ? kJson : kProto}};
      if (!json_) {
        answer_->SerializeToString(&response.body);
        return absl::OkStatus();
      }
      const auto written = google::protobuf::util::MessageToJsonString(*answer_, &response.body);
      if (!written.ok()) return absl::InternalError(written.message().ToString());
      Compress(exchange_->request(), response);
      return absl::OkStatus();
    });
    NoteSpan(made);
    // What lies unread counts against the client until it has left.
    exchange_->Respond(made.ok() ? std::move(response) : ErrorResponse(made), [self = shared_from_this()] {});
  }

  void NoteSpan(const absl::Status& status) {
    if (backend_.spans == nullptr) return;
    const auto context = loupe::trace::ParseTraceparent(exchange_->request().Header(loupe::trace::kTraceparent));
    if (!context || !context->sampled) return;
    std::string name = exchange_->request().path.substr(1);
    backend_.spans->Add({.trace_id = context->trace_id,
                         .span_id = loupe::trace::NewSpanId(),
                         .parent_id = context->span_id,
                         .name = std::move(name),
                         .kind = loupe::trace::SpanKind::kServer,
                         .start = start_,
                         .end = backend_.clock->WallNow(),
                         .attributes = {{"rpc.system", "connect_rpc"}},
                         .error = status.ok() ? "" : std::string(status.message())});
  }

  const api::Backend& backend_;
  const absl::Time start_ = backend_.clock->WallNow();
  const Method& method_;
  const int port_;
  const bool json_;
  const std::shared_ptr<Exchange> exchange_;
  const std::unique_ptr<Message> request_;
  const std::unique_ptr<Message> answer_;
  absl::Duration timeout_ = absl::InfiniteDuration();
  std::atomic<bool> late_{false};
  std::shared_ptr<HttpCall> self_;
};

// What can be said before the body is looked at; `json` and `timeout` are set where it is OK.
absl::Status CheckHeaders(const Request& request, bool& json, absl::Duration& timeout) {
  const std::string_view encoding = request.Header("content-encoding");
  if (!encoding.empty() && encoding != "identity")
    return absl::UnimplementedError(fmt::format("Content-Encoding {}: expected identity", encoding));
  const std::string_view version = request.Header("connect-protocol-version");
  if (!version.empty() && version != "1")
    return absl::InvalidArgumentError(fmt::format("Connect-Protocol-Version {}: expected 1", version));
  const std::string_view time = request.Header("connect-timeout-ms");
  if (!time.empty()) {
    int64_t ms = 0;
    if (time.size() > 10 || !absl::SimpleAtoi(absl::string_view(time.data(), time.size()), &ms) || ms < 0)
      return absl::InvalidArgumentError(fmt::format("Connect-Timeout-Ms {}: expected at most ten digits", time));
    timeout = absl::Milliseconds(ms);
  }
  json = MediaType(request.Header("content-type")) == kJson;
  return absl::OkStatus();
}

}  // namespace

void ServeConnect(const api::Backend& backend, const Methods& methods, int port, std::shared_ptr<Exchange> exchange) {
  const Request& request = exchange->request();
  const Method* method = methods.Find(request.path);
  if (method == nullptr) {
    return exchange->Respond(
        ErrorResponse(absl::UnimplementedError(fmt::format(
                          "there is no unary method {:.200}; docs/http.md lists what streams", request.path)),
                      404));
  }
  if (request.method != "POST") {
    Response response = ErrorResponse(absl::UnimplementedError("methods are called by POST"), 405);
    response.headers.emplace_back("Allow", "POST");
    return exchange->Respond(std::move(response));
  }
  bool json = false;
  absl::Duration timeout = absl::InfiniteDuration();
  if (const absl::Status wrong = CheckHeaders(request, json, timeout); !wrong.ok())
    return exchange->Respond(ErrorResponse(wrong));
  if (!json && MediaType(request.Header("content-type")) != kProto) {
    Response response = ErrorResponse(absl::InvalidArgumentError("expected Content-Type: application/json"), 415);
    response.headers.emplace_back("Accept-Post", fmt::format("{}, {}", kJson, kProto));
    return exchange->Respond(std::move(response));
  }
  std::unique_ptr<Message> answer(method->response_prototype->New());
  const auto call = std::make_shared<HttpCall>(backend, *method, port, json, exchange, std::move(answer));
  call->SetTimeout(timeout);
  if (request.body.size() <= kSmallBytes) return call->Start();
  const absl::StatusOr<access::Caller> caller = backend.access == nullptr
                                                    ? api::Identify(backend, call->origin())
                                                    : backend.access->Authenticate(call->origin().authorization);
  if (!caller.ok()) {
    const absl::Status counted = api::Identify(backend, call->origin()).status();
    return exchange->Respond(ErrorResponse(counted.ok() ? caller.status() : counted));
  }
  api::RunOnPool(
      backend, api::ClientName(*caller, request.machine), [call] { call->Start(); },
      [exchange](const absl::Status& failed) { exchange->Respond(ErrorResponse(failed)); });
}

}  // namespace loupe::coordinator::http
