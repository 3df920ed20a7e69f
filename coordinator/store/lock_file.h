// One process per data folder: an flock on a file that lives beside the database.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace loupe::coordinator {

// Held from Acquire to destruction, and let go by the kernel when the process dies, however it dies.
class LockFile {
 public:
  // FAILED_PRECONDITION when another process holds it: names that process. Other errors name the path.
  static absl::StatusOr<std::unique_ptr<LockFile>> Acquire(const std::string& path);
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

 private:
  explicit LockFile(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace loupe::coordinator
