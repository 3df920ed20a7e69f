// One log for all programs: spdlog to stderr. Log lines never carry tokens, and one message is one line.
//   text: "2026-11-28T17:20:00.123 info [loupe-worker] message", local time, the message Printable (common/text.h)
//   json: an object per line: "time" (RFC 3339, UTC), "level", "message", "program", "thread" (the system's number of
//         it), and the fields that are set below. Valid UTF-8 whatever is logged: other bytes become "\xe9".
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "fmt/format.h"

namespace loupe {

// Names the process's default logger, sets its level (trace, debug, info, warn, error, off) and its form (text, json).
// Call once, from main. INVALID_ARGUMENT lists the levels or the forms when one is none of them; an empty level means
// LOUPE_LOG, or info; an empty form LOUPE_LOG_FORMAT, or text.
absl::Status InitLogging(std::string_view program, std::string_view level, std::string_view format = "");

// A field of every line of this process from now on: "worker". Before other threads log.
void SetLogField(const char* name, std::string value);

// From its making to its end, a field of the lines that this thread logs: "trial". Text that outlives it is `name`
// alone.
class LogFieldScope {
 public:
  LogFieldScope(const char* name, std::string value);
  ~LogFieldScope();
  LogFieldScope(const LogFieldScope&) = delete;
  LogFieldScope& operator=(const LogFieldScope&) = delete;
};

enum class LogLine { kDebug, kInfo, kWarning, kError };

// A line of the default logger, formatted if its level is on. From any thread; what goes wrong is told on stderr and
// never thrown. One function formats for all: by spdlog's templates that would be compiled once more in every source
// that logs.
void WriteLogLine(LogLine level, fmt::string_view text, fmt::format_args args) noexcept;

template <typename... Args>
void LogDebug(fmt::format_string<Args...> text, Args&&... args) {
  WriteLogLine(LogLine::kDebug, text, fmt::make_format_args(args...));
}
template <typename... Args>
void LogInfo(fmt::format_string<Args...> text, Args&&... args) {
  WriteLogLine(LogLine::kInfo, text, fmt::make_format_args(args...));
}
template <typename... Args>
void LogWarning(fmt::format_string<Args...> text, Args&&... args) {
  WriteLogLine(LogLine::kWarning, text, fmt::make_format_args(args...));
}
template <typename... Args>
void LogError(fmt::format_string<Args...> text, Args&&... args) {
  WriteLogLine(LogLine::kError, text, fmt::make_format_args(args...));
}

}  // namespace loupe
