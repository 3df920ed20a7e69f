#include "common/private_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/atomic_file.h"
#include "fmt/format.h"

namespace loupe {

absl::Status WritePrivateFile(const std::string& path, std::string_view text) {
  return WriteFileAtomically(path, text, 0600);
}

absl::StatusOr<std::string> ReadPrivateFile(const std::string& path, std::string_view what) {
  // Non-blocking: a named pipe in its place must not hold the program up.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0 && errno == ELOOP) {
    return absl::FailedPreconditionError(
        fmt::format("'{}', {}, is a symbolic link: put the file itself in its place", path, what));
  }
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot read '{}', {}", path, what));
  struct stat info {};
  absl::Status status;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    status = absl::FailedPreconditionError(fmt::format("'{}', {}, is not a file", path, what));
  } else if ((info.st_mode & 077) != 0) {
    status = absl::FailedPreconditionError(fmt::format("others may read '{}', {}: run chmod 600 on it", path, what));
  }
  std::string text;
  char buffer[4096];
  ssize_t got = 0;
  while (status.ok() && ((got = ::read(fd, buffer, sizeof buffer)) > 0 || (got < 0 && errno == EINTR))) {
    if (got > 0) text.append(buffer, static_cast<size_t>(got));
  }
  if (status.ok() && got < 0) status = absl::ErrnoToStatus(errno, fmt::format("cannot read '{}', {}", path, what));
  ::close(fd);
  if (!status.ok()) return status;
  return text;
}

}  // namespace loupe
