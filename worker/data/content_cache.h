// Files that are costly to make and depend on their key alone, shared by all workers of a machine.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker {

// {root}/{kind}/{key}: a key is the SHA-256 of everything that the content depends on, so that entries are never changed,
// only made. Thread-safe.
class ContentCache {
 public:
  explicit ContentCache(std::string root) : root_(std::move(root)) {}

  // The entry's path; `make(path)` writes it when it is not there, atomically (WriteFileAtomically does). Of several
  // processes one makes it and the others wait; `while_waiting` is called ten times a second meanwhile and may throw. Errors
  // are make's own, or of making the folder. What `make` throws flies through and leaves nothing behind.
  absl::StatusOr<std::string> GetOrMake(const std::string& kind, const std::string& key,
                                        const std::function<absl::Status(const std::string& path)>& make,
                                        const std::function<void()>& while_waiting = {}) const;

 private:
  const std::string root_;
};

}  // namespace loupe::worker
