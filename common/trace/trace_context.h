// Of which trace a call or an attempt is: W3C Trace Context (w3.org/TR/trace-context), its header `traceparent`.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace loupe::trace {

// The header, and the key of gRPC's metadata.
inline constexpr char kTraceparent[] = "traceparent";

struct TraceContext {
  // 32 and 16 lower-case hexadecimal digits, not all zero.
  std::string trace_id;
  // Of the span under which what follows belongs.
  std::string span_id;
  // Whether somebody keeps the trace: without, no spans are made.
  bool sampled = false;
};

// "00-TRACE-SPAN-FLAGS". Nothing for what is none, for ids of zeros and for the version ff; of versions to come what
// version 00 says of the beginning is read, as the standard asks. Who gets nothing begins a trace of its own.
std::optional<TraceContext> ParseTraceparent(std::string_view text);
std::string ToTraceparent(const TraceContext& context);

// A trace that begins here, sampled.
TraceContext NewTrace();
std::string NewSpanId();

}  // namespace loupe::trace
