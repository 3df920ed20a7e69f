#include "common/logging.h"

#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <utility>

#include "common/text.h"
#include "fmt/format.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace loupe {
namespace {

// The message on one line, with nothing that a terminal obeys: names and texts in it come from workers and clients.
class PrintablePayload : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string text = Printable({message.payload.data(), message.payload.size()});
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::custom_flag_formatter> clone() const override { return std::make_unique<PrintablePayload>(); }
};

}  // namespace

absl::Status InitLogging(std::string_view program, std::string_view level) {
  if (level.empty()) {
    const char* from_environment = std::getenv("LOUPE_LOG");
    level = from_environment != nullptr ? from_environment : "info";
  }
  const spdlog::level::level_enum parsed = spdlog::level::from_str(std::string(level));
  if (parsed == spdlog::level::off && level != "off") {
    return absl::InvalidArgumentError(
        fmt::format("unknown log level '{}': expected trace, debug, info, warn, error or off", level));
  }
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<PrintablePayload>('*').set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ [%n] %*");
  auto logger = spdlog::stderr_color_mt(std::string(program));
  logger->set_formatter(std::move(formatter));
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  return absl::OkStatus();
}

}  // namespace loupe
