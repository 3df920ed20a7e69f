// The trace of a command: one that TRACEPARENT names, or, where a collector is named, one of its own. Its calls carry
// it, and the command is a span in it.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "common/trace/trace_context.h"

namespace loupe::cli {

// Begin … End once, as the command does. Until End nothing runs and nothing is sent.
class CommandTrace {
 public:
  // `endpoint`: of --otlp-endpoint, or empty.
  void Begin(const std::string& endpoint);
  // Sends the span, where the command has called a coordinator; waits two seconds at most. A collector that does not
  // take it is said, and nothing else.
  void End(const std::string& command, int exit_code);

 private:
  std::string endpoint_;
  // What the span is under; without ids where the trace begins here.
  trace::TraceContext parent_;
  trace::TraceContext context_;
  absl::Time start_;
};

}  // namespace loupe::cli
