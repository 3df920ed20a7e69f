#include "common/logging.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/text.h"
#include "fmt/format.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace loupe {
namespace {

using LogFields = std::vector<std::pair<const char*, std::string>>;

LogFields process_fields;
thread_local LogFields thread_fields;

// The message on one line, with nothing that a terminal obeys: names and texts in it come from workers and clients.
class PrintablePayload : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string text = Printable({message.payload.data(), message.payload.size()});
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::custom_flag_formatter> clone() const override { return std::make_unique<PrintablePayload>(); }
};

// As a JSON string (RFC 8259), quotes included.
std::string LogJsonString(std::string_view text) {
  std::string out = "\"";
  for (const char c : ToUtf8(text)) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

class JsonLines : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const auto view = [](spdlog::string_view_t text) { return std::string_view(text.data(), text.size()); };
    std::string line =
        fmt::format(R"({{"time":"{}","level":"{}","message":{},"program":{},"thread":{})",
                    absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromChrono(message.time), absl::UTCTimeZone()),
                    view(spdlog::level::to_string_view(message.level)), LogJsonString(view(message.payload)),
                    LogJsonString(view(message.logger_name)), message.thread_id);
    for (const LogFields* fields : {&process_fields, &thread_fields}) {
      for (const auto& [name, value] : *fields) line += fmt::format(",\"{}\":{}", name, LogJsonString(value));
    }
    // Somebody may look at it on a terminal.
    line = PrintableJson(line + "}") + "\n";
    out.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonLines>(); }
};

std::string_view OrVariable(std::string_view given, const char* variable, std::string_view otherwise) {
  if (!given.empty()) return given;
  const char* from_environment = std::getenv(variable);
  return from_environment != nullptr && *from_environment != '\0' ? from_environment : otherwise;
}

}  // namespace

absl::Status InitLogging(std::string_view program, std::string_view level, std::string_view format) {
  level = OrVariable(level, "LOUPE_LOG", "info");
  const spdlog::level::level_enum parsed = spdlog::level::from_str(std::string(level));
  if (parsed == spdlog::level::off && level != "off") {
    return absl::InvalidArgumentError(
        fmt::format("unknown log level '{}': expected trace, debug, info, warn, error or off", level));
  }
  format = OrVariable(format, "LOUPE_LOG_FORMAT", "text");
  std::unique_ptr<spdlog::formatter> formatter = std::make_unique<JsonLines>();
  if (format == "text") {
    auto pattern = std::make_unique<spdlog::pattern_formatter>();
    pattern->add_flag<PrintablePayload>('*').set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ [%n] %*");
    formatter = std::move(pattern);
  } else if (format != "json") {
    return absl::InvalidArgumentError(fmt::format("unknown form of log lines '{}': expected text or json", format));
  }
  auto logger = spdlog::stderr_color_mt(std::string(program));
  logger->set_formatter(std::move(formatter));
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  return absl::OkStatus();
}

void SetLogField(const char* name, std::string value) { process_fields.emplace_back(name, std::move(value)); }

LogFieldScope::LogFieldScope(const char* name, std::string value) {
  thread_fields.emplace_back(name, std::move(value));
}

LogFieldScope::~LogFieldScope() { thread_fields.pop_back(); }

void WriteLogLine(LogLine line, fmt::string_view text, fmt::format_args args) noexcept try {
  const spdlog::level::level_enum level = line == LogLine::kDebug     ? spdlog::level::debug
                                          : line == LogLine::kInfo    ? spdlog::level::info
                                          : line == LogLine::kWarning ? spdlog::level::warn
                                                                      : spdlog::level::err;
  spdlog::logger* const logger = spdlog::default_logger_raw();
  if (logger->should_log(level)) logger->log(level, fmt::vformat(text, args));
} catch (const std::exception& error) {
  std::fprintf(stderr, "a log line is lost: %s\n", error.what());
}

}  // namespace loupe
