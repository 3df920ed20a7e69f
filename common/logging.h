// One log set-up for all programs: spdlog to stderr, level from --log-level or LOUPE_LOG. Log lines never carry tokens,
// and are Printable (common/text.h): one message is one line.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace loupe {

// Names the process's default logger and sets its level (trace, debug, info, warn, error, off). Call once, from main.
// INVALID_ARGUMENT lists the levels when `level` is none of them; an empty level means LOUPE_LOG, or info.
absl::Status InitLogging(std::string_view program, std::string_view level);

}  // namespace loupe
