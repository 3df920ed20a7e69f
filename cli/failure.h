// How a command ends in an error: one sentence per problem on stderr, and an exit code.
#pragma once

#include "absl/status/status.h"

namespace loupe::cli {

// The code that stands for `status` (kOk for OK).
int ExitCodeFor(const absl::Status& status);

// Prints "loupe: …" to stderr, each field violation on a line of its own, and returns ExitCodeFor(status). OK prints
// nothing.
int Fail(const absl::Status& status);

}  // namespace loupe::cli
