#include "coordinator/store/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "fmt/format.h"

namespace loupe::coordinator {

absl::StatusOr<std::unique_ptr<LockFile>> LockFile::Acquire(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot open the lock file '{}'", path));
  std::unique_ptr<LockFile> lock(new LockFile(fd));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return absl::ErrnoToStatus(errno, fmt::format("cannot lock '{}'", path));
    char holder[32] = {};
    const ssize_t got = ::pread(fd, holder, sizeof holder - 1, 0);
    return absl::FailedPreconditionError(
        fmt::format("another coordinator (process {}) holds '{}': stop it first, or give another folder with --data",
                    got > 0 ? std::string_view(holder) : std::string_view("unknown"), path));
  }
  // For the sentence above only: the lock itself is the kernel's.
  const std::string own = fmt::format("{}", ::getpid());
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, own.data(), own.size(), 0) < 0) {
    // A full disk must not keep the coordinator from starting: the number is only a courtesy.
  }
  return lock;
}

LockFile::~LockFile() { ::close(fd_); }

}  // namespace loupe::coordinator
