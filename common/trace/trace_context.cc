#include "common/trace/trace_context.h"

#include <algorithm>

#include "common/random_source.h"

namespace loupe::trace {
namespace {

constexpr size_t kTraceDigits = 32;
constexpr size_t kSpanDigits = 16;
// "00-" trace "-" span "-" "01"
constexpr size_t kLength = 3 + kTraceDigits + 1 + kSpanDigits + 1 + 2;

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsId(std::string_view text) { return IsHex(text) && text.find_first_not_of('0') != std::string_view::npos; }

}  // namespace

std::optional<TraceContext> ParseTraceparent(std::string_view text) {
  if (text.size() < kLength) return std::nullopt;
  const std::string_view version = text.substr(0, 2);
  const std::string_view trace = text.substr(3, kTraceDigits);
  const std::string_view span = text.substr(4 + kTraceDigits, kSpanDigits);
  const std::string_view flags = text.substr(5 + kTraceDigits + kSpanDigits, 2);
  if (!IsHex(version) || version == "ff" || !IsId(trace) || !IsId(span) || !IsHex(flags)) return std::nullopt;
  if (text[2] != '-' || text[3 + kTraceDigits] != '-' || text[4 + kTraceDigits + kSpanDigits] != '-')
    return std::nullopt;
  // More parts may follow in versions to come.
  if (text.size() > kLength && (version == "00" || text[kLength] != '-')) return std::nullopt;
  const char last = flags[1];
  const int bits = last <= '9' ? last - '0' : last - 'a' + 10;
  return TraceContext{std::string(trace), std::string(span), (bits & 1) != 0};
}

std::string ToTraceparent(const TraceContext& context) {
  return "00-" + context.trace_id + "-" + context.span_id + (context.sampled ? "-01" : "-00");
}

TraceContext NewTrace() { return {ToHex(SystemRandom().NextToken()), NewSpanId(), true}; }

std::string NewSpanId() { return ToHex(SystemRandom().NextToken()).substr(0, kSpanDigits); }

}  // namespace loupe::trace
