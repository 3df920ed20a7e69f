// Names as people type them, as resource names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loupe::cli {

// "quickstart" or "sweeps/quickstart" -> "sweeps/quickstart". INVALID_ARGUMENT says what a name looks like.
absl::StatusOr<std::string> SweepName(std::string_view text);

// ("quickstart", 7) -> "sweeps/quickstart/trials/7".
absl::StatusOr<std::string> TrialName(std::string_view sweep, int64_t index);

// "w1" or "workers/w1" -> "workers/w1".
absl::StatusOr<std::string> WorkerName(std::string_view text);

}  // namespace loupe::cli
