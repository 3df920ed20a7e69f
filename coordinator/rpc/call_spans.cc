#include "coordinator/rpc/call_spans.h"

#include <optional>
#include <string>

#include "absl/time/clock.h"
#include "common/trace/trace_context.h"

namespace loupe::coordinator::rpc {
namespace {

using grpc::experimental::InterceptionHookPoints;

// Of one call; gRPC deletes it when the call is over.
class CallSpan final : public grpc::experimental::Interceptor {
 public:
  CallSpan(loupe::trace::SpanExporter& exporter, const char* method) : exporter_(exporter) {
    span_.name = *method == '/' ? method + 1 : method;
    span_.kind = loupe::trace::SpanKind::kServer;
    span_.start = absl::Now();
  }
  ~CallSpan() override {
    if (span_.trace_id.empty()) return;
    span_.end = absl::Now();
    exporter_.Add(std::move(span_));
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      const auto* metadata = methods->GetRecvInitialMetadata();
      const auto found = metadata->find(loupe::trace::kTraceparent);
      std::optional<loupe::trace::TraceContext> context;
      if (found != metadata->end())
        context = loupe::trace::ParseTraceparent({found->second.data(), found->second.size()});
      if (context && context->sampled) {
        span_.trace_id = context->trace_id;
        span_.parent_id = context->span_id;
        span_.span_id = loupe::trace::NewSpanId();
        span_.attributes = {{"rpc.system", "grpc"}};
      }
    }
    if (!span_.trace_id.empty() && methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const grpc::Status status = methods->GetSendStatus();
      span_.attributes.emplace_back("rpc.grpc.status_code", static_cast<int64_t>(status.error_code()));
      if (!status.ok()) span_.error = status.error_message().empty() ? "failed" : status.error_message();
    }
    methods->Proceed();
  }

 private:
  loupe::trace::SpanExporter& exporter_;
  loupe::trace::Span span_;
};

class CallSpanFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit CallSpanFactory(loupe::trace::SpanExporter& exporter) : exporter_(exporter) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    return new CallSpan(exporter_, info->method());
  }

 private:
  loupe::trace::SpanExporter& exporter_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> CallSpans(
    loupe::trace::SpanExporter& exporter) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<CallSpanFactory>(exporter));
  return factories;
}

}  // namespace loupe::coordinator::rpc
