// Another program of this machine, run to its end: what it says and how it ended.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::cli {

struct ProgramEnd {
  // 128 + the signal of one that was killed.
  int exit_code = 0;
  std::string output;
  std::string errors;
};

// Runs `words[0]`, looked for on PATH, with the other words as its arguments and nothing to read. It inherits the
// environment without this project's own variables (LOUPE_…): what they hold, a token among it, is not for others.
// NOT_FOUND where there is no such program; INTERNAL where none can be started.
absl::StatusOr<ProgramEnd> RunProgram(const std::vector<std::string>& words);

}  // namespace loupe::cli
