// Who changed what: an append-only file of lines.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace loupe::coordinator::access {

// Thread-safe. Lines carry names and outcomes, never tokens.
class AuditLog {
 public:
  // Opens for appending; private to the user. With `most_bytes`, a file that has come to that size becomes "….1", in
  // place of the one before, and is begun anew; without, it grows as it must.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path, int64_t most_bytes = 0);
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  // One whole line, control characters replaced: nobody writes a second line into it. A line that cannot be written is
  // logged.
  void Append(std::string_view line);

 private:
  AuditLog(std::string path, int64_t most_bytes, int fd) : path_(std::move(path)), most_bytes_(most_bytes), fd_(fd) {}
  void BeginAnewIfFull();

  const std::string path_;
  const int64_t most_bytes_;
  std::mutex mutex_;
  int fd_;
  bool torn_ = false;
};

}  // namespace loupe::coordinator::access
