// Files that are either whole or not there.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe {

// Writes `bytes` to a temporary file beside `path`, fsyncs it, renames it over `path` and fsyncs the folder. On an
// error (RESOURCE_EXHAUSTED on a full disk, PERMISSION_DENIED, NOT_FOUND for a missing folder) `path` is as it was
// before and the temporary is removed. Safe with several writers of the same path: the last rename wins. `mode` (less
// the umask) holds from the first byte on.
absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes, unsigned mode = 0644);

// The whole file. NOT_FOUND, PERMISSION_DENIED or INTERNAL name the path.
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace loupe
