// One process per data folder: flocks on the folder itself, which nobody can remove from under a process, and on a file
// in it, which names the process (and keeps programs out that know the file alone).
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace loupe::coordinator::store {

// Held from Acquire to destruction, and let go by the kernel when the process dies, however it dies.
class LockFile {
 public:
  // FAILED_PRECONDITION when another process holds it: names that process. Other errors name the path.
  static absl::StatusOr<std::unique_ptr<LockFile>> Acquire(const std::string& path);
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

 private:
  LockFile(int folder_fd, int fd) : folder_fd_(folder_fd), fd_(fd) {}
  const int folder_fd_;
  const int fd_;
};

}  // namespace loupe::coordinator::store
