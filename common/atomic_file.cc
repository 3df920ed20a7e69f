#include "common/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "common/random_source.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe {
namespace {

absl::Status WriteAndSync(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return absl::ErrnoToStatus(errno, "write");
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  if (::fsync(fd) != 0) return absl::ErrnoToStatus(errno, "fsync");
  return absl::OkStatus();
}

absl::Status SyncFolder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot open folder '{}'", folder));
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  return result == 0 ? absl::OkStatus() : absl::ErrnoToStatus(error, fmt::format("fsync of folder '{}'", folder));
}

}  // namespace

absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes, unsigned mode) {
  const std::string temporary = fmt::format("{}.{}.tmp", path, ToHex(SystemRandom().NextToken()).substr(0, 12));
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot create '{}'", path));
  absl::Status status = Annotate(WriteAndSync(fd, bytes), fmt::format("cannot write '{}'", path));
  if (::close(fd) != 0 && status.ok()) status = absl::ErrnoToStatus(errno, fmt::format("cannot close '{}'", path));
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, fmt::format("cannot rename to '{}'", path));
  }
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return SyncFolder(folder.empty() ? "." : folder);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot read '{}'", path));
  std::string bytes;
  char block[1 << 16];
  ssize_t got = 0;
  while ((got = ::read(fd, block, sizeof block)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    bytes.append(block, static_cast<size_t>(got));
  }
  const int error = errno;
  ::close(fd);
  if (got < 0) return absl::ErrnoToStatus(error, fmt::format("reading '{}'", path));
  return bytes;
}

}  // namespace loupe
