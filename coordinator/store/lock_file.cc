#include "coordinator/store/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {

absl::StatusOr<std::unique_ptr<LockFile>> LockFile::Acquire(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash);
  const int folder_fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot open the folder '{}'", folder));
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  const int error = errno;
  std::unique_ptr<LockFile> lock(new LockFile(folder_fd, fd));
  if (fd < 0) return absl::ErrnoToStatus(error, fmt::format("cannot open the lock file '{}'", path));
  for (const int each : {folder_fd, fd}) {
    if (::flock(each, LOCK_EX | LOCK_NB) == 0) continue;
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

LockFile::~LockFile() {
  if (fd_ >= 0) ::close(fd_);
  ::close(folder_fd_);
}

}  // namespace loupe::coordinator::store
