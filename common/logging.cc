#include "common/logging.h"

#include <cstdlib>
#include <string>

#include "fmt/format.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace loupe {

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
  auto logger = spdlog::stderr_color_mt(std::string(program));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ [%n] %v");
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  return absl::OkStatus();
}

}  // namespace loupe
