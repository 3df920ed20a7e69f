#include "coordinator/access/audit_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/status/status.h"
#include "common/logging.h"
#include "fmt/format.h"

namespace loupe::coordinator::access {

namespace {

int OpenForAppending(const std::string& path) {
  return ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const std::string& path, int64_t most_bytes) {
  const int fd = OpenForAppending(path);
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot open the audit log '{}'", path));
  return std::unique_ptr<AuditLog>(new AuditLog(path, most_bytes, fd));
}

AuditLog::~AuditLog() { ::close(fd_); }

void AuditLog::Append(std::string_view line) {
  std::string text(line);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, '?');
  text += '\n';
  const std::lock_guard<std::mutex> lock(mutex_);
  if (most_bytes_ > 0) BeginAnewIfFull();
  // What a full disk cut off must not run into the next line.
  if (torn_) text.insert(0, "\n");
  const ssize_t wrote = ::write(fd_, text.data(), text.size());
  torn_ = wrote >= 0 ? wrote < static_cast<ssize_t>(text.size()) : torn_;
  if (wrote != static_cast<ssize_t>(text.size())) LogError("the audit log cannot be written: {}", line);
}

void AuditLog::BeginAnewIfFull() {
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || info.st_size < most_bytes_) return;
  // Where that fails, the old one goes on.
  if (std::rename(path_.c_str(), (path_ + ".1").c_str()) != 0) return;
  const int fd = OpenForAppending(path_);
  if (fd < 0) return;
  ::close(std::exchange(fd_, fd));
  torn_ = false;
}

}  // namespace loupe::coordinator::access
