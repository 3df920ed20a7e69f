#include "cli/command_trace.h"

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/time/clock.h"
#include "clients/rpc/call_trace.h"
#include "common/trace/span_exporter.h"
#include "fmt/format.h"

namespace loupe::cli {

void CommandTrace::Begin(const std::string& endpoint) {
  endpoint_ = endpoint;
  start_ = absl::Now();
  const char* text = std::getenv("TRACEPARENT");
  const auto given = trace::ParseTraceparent(text == nullptr ? "" : text);
  if (given) parent_ = *given;
  const bool asked = trace::SpanExporter::IsAsked(endpoint);
  if (!given && !asked) return;
  context_ = given ? *given : trace::NewTrace();
  // Without a collector of its own the command has no span, and its calls are the caller's.
  if (given && asked && given->sampled) context_.span_id = trace::NewSpanId();
  if (!asked) endpoint_.clear();
  clients::rpc::SetCallTraceparent(trace::ToTraceparent(context_));
}

void CommandTrace::End(const std::string& command, int exit_code) {
  if (!context_.sampled || context_.span_id == parent_.span_id || !clients::rpc::CallsWereTraced()) return;
  const auto exporter =
      trace::SpanExporter::Start({.endpoint = endpoint_, .service = "loupe", .version = LOUPE_VERSION, .logs = false});
  if (!exporter.ok()) fmt::print(stderr, "loupe: {}\n", std::string(exporter.status().message()));
  if (!exporter.ok() || *exporter == nullptr) return;
  (*exporter)->Add({.trace_id = context_.trace_id,
                    .span_id = context_.span_id,
                    .parent_id = parent_.span_id,
                    .name = "loupe " + command,
                    .start = start_,
                    .end = absl::Now(),
                    .attributes = {{"loupe.exit_code", static_cast<int64_t>(exit_code)}},
                    .error = exit_code == 0 ? "" : fmt::format("exit code {}", exit_code)});
  (*exporter)->Finish();
  if ((*exporter)->dropped() > 0) fmt::print(stderr, "loupe: no collector has taken the command's span\n");
}

}  // namespace loupe::cli
