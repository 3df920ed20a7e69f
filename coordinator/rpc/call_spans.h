// A span for each call by gRPC whose caller's trace is kept somewhere. Only where the coordinator sends its spans.
#pragma once

#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <vector>

#include "common/trace/span_exporter.h"

namespace loupe::coordinator::rpc {

// For ServerBuilder; `exporter` outlives the server.
std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> CallSpans(
    loupe::trace::SpanExporter& exporter);

}  // namespace loupe::coordinator::rpc
