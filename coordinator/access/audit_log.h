// Who changed what: an append-only file of lines.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loupe::coordinator {

// Thread-safe. Lines carry names and outcomes, never tokens.
class AuditLog {
 public:
  // Opens for appending; private to the user.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path);
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  // One whole line, control characters replaced: nobody writes a second line into it. A line that cannot be written is
  // logged.
  void Append(std::string_view line);

 private:
  explicit AuditLog(int fd) : fd_(fd) {}
  const int fd_;
  std::mutex mutex_;
  bool torn_ = false;
};

}  // namespace loupe::coordinator
