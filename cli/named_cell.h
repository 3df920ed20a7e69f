// A cell as people type it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/baseline_contrasts.h"

namespace loupe::cli {

// {"input=SA_in", "scale=2"} -> {input: SA_in, scale: 2}. INVALID_ARGUMENT: an entry without '=' or with nothing on one
// side of it, or a factor twice. Whether factors and levels exist is for the analysis to say.
absl::StatusOr<analysis::NamedCell> ParseNamedCell(const std::vector<std::string>& entries);

}  // namespace loupe::cli
