// Files that hold secrets: nobody but the user may read them, from their first byte on.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe {

// WriteFileAtomically with mode 0600.
absl::Status WritePrivateFile(const std::string& path, std::string_view text);

// The whole file. NOT_FOUND when there is none; FAILED_PRECONDITION, with the way out, for a symbolic link, for what is
// not a file, and for a file that others may read; `what` ("the administrator's token") stands in those messages.
absl::StatusOr<std::string> ReadPrivateFile(const std::string& path, std::string_view what);

}  // namespace loupe
