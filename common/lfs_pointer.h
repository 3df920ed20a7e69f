// What Git LFS leaves where a large file should be, when the repository was cloned without fetching its contents.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace loupe {

// INVALID_ARGUMENT, with the path and what to do, if `bytes` begin as a pointer file does (git-lfs, docs/spec.md: its
// first line is the version, and the whole is under 1024 bytes). Readers of pictures, weights and texts ask before they
// call a file malformed.
inline absl::Status CheckIsNoLfsPointer(std::string_view path, std::string_view bytes) {
  if (bytes.size() > 1024 || !bytes.starts_with("version https://git-lfs.github.com/spec/")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      std::string(path) +
      ": a pointer of Git LFS and not the file itself; run 'git lfs pull' where it was cloned, or download the file");
}

}  // namespace loupe
