#include "coordinator/store/artifact_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "common/random_source.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {
namespace {

constexpr size_t kMaxNameLength = 128;
constexpr char kIncoming[] = "incoming";

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool IsDigest(std::string_view text) {
  return text.size() == 64 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

absl::Status MakeFolder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, fmt::format("cannot make the folder '{}'", path));
}

// A link in the place of one of our folders would lead what is written there elsewhere.
absl::Status CheckRealFolder(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, fmt::format("cannot look at '{}'", path));
  if (S_ISDIR(info.st_mode)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("'{}' is no folder (a link, perhaps): expected a folder of the artifact store; remove it", path));
}

absl::Status SyncFolder(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot open the folder '{}'", path));
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  return result == 0 ? absl::OkStatus() : absl::ErrnoToStatus(error, fmt::format("fsync of the folder '{}'", path));
}

}  // namespace

absl::Status CheckArtifactName(std::string_view name) {
  if (!name.empty() && name.size() <= kMaxNameLength && name.front() != '.' &&
      std::all_of(name.begin(), name.end(), IsNameCharacter)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(fmt::format(
      "'{:.140}' is not an artifact name: expected 1 to {} letters, digits, '.', '_' and '-', not starting with '.'",
      name, kMaxNameLength));
}

absl::StatusOr<std::unique_ptr<ArtifactFolder>> ArtifactFolder::Open(const std::string& root) {
  LOUPE_RETURN_IF_ERROR(MakeFolder(root));
  LOUPE_RETURN_IF_ERROR(CheckRealFolder(root));
  const std::string incoming = fmt::format("{}/{}", root, kIncoming);
  std::error_code ignored;
  std::filesystem::remove_all(incoming, ignored);
  LOUPE_RETURN_IF_ERROR(MakeFolder(incoming));
  return std::unique_ptr<ArtifactFolder>(new ArtifactFolder(root));
}

absl::StatusOr<ArtifactFolder> ArtifactFolder::Existing(const std::string& root) {
  if (::access(root.c_str(), R_OK | X_OK) != 0) {
    return absl::ErrnoToStatus(errno, fmt::format("cannot read the folder '{}'", root));
  }
  return ArtifactFolder(root);
}

absl::StatusOr<std::unique_ptr<ArtifactFolder::Upload>> ArtifactFolder::Begin() const {
  std::string path = fmt::format("{}/{}/{}", root_, kIncoming, ToHex(SystemRandom().NextToken()));
  const auto create = [&path] {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  };
  int fd = create();
  // Somebody has tidied up; where the whole folder is gone, a disk may be.
  if (fd < 0 && errno == ENOENT && ::mkdir(fmt::format("{}/{}", root_, kIncoming).c_str(), 0700) == 0) fd = create();
  if (fd < 0 && errno == ENOENT) {
    return absl::UnavailableError(
        fmt::format("the artifacts' folder '{}' is gone (removed, or its disk is not there): put it back", root_));
  }
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot create '{}'", path));
  return std::unique_ptr<Upload>(new Upload(*this, std::move(path), fd));
}

ArtifactFolder::Upload::~Upload() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(path_.c_str());
}

absl::Status ArtifactFolder::Upload::Append(std::string_view bytes) {
  digest_.Update(bytes);
  size_ += static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd_, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && errno == EFBIG) {
      return absl::ResourceExhaustedError(
          "cannot store the artifact: it has reached the coordinator's limit on file sizes (ulimit -f), which has to be raised");
    }
    if (wrote < 0) return absl::ErrnoToStatus(errno, "cannot store the artifact");
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return absl::OkStatus();
}

absl::Status ArtifactFolder::Upload::Finish(int64_t expected_size, std::string_view expected_sha256) {
  const std::string sha256 = digest_.FinishHex();
  if (size_ != expected_size || sha256 != expected_sha256) {
    return absl::DataLossError(
        fmt::format("the artifact arrived with {} bytes and SHA-256 {}, announced were {} and {}: send it again", size_,
                    sha256, expected_size, expected_sha256));
  }
  LOUPE_ASSIGN_OR_RETURN(const std::string target, folder_.PathOf(sha256));
  const std::string folder = target.substr(0, target.rfind('/'));
  LOUPE_RETURN_IF_ERROR(MakeFolder(folder));
  LOUPE_RETURN_IF_ERROR(CheckRealFolder(folder));
  if (::fsync(fd_) != 0) return absl::ErrnoToStatus(errno, "fsync of an artifact");
  if (::rename(path_.c_str(), target.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, fmt::format("cannot rename an artifact to '{}'", target));
  }
  ::close(std::exchange(fd_, -1));
  LOUPE_RETURN_IF_ERROR(SyncFolder(folder));
  return SyncFolder(folder_.root_);
}

absl::StatusOr<std::string> ArtifactFolder::PathOf(std::string_view sha256) const {
  if (!IsDigest(sha256)) {
    return absl::InvalidArgumentError(
        fmt::format("'{:.80}' is not a SHA-256 in 64 lower-case hexadecimal digits", sha256));
  }
  return fmt::format("{}/{}/{}", root_, sha256.substr(0, 2), sha256);
}

absl::StatusOr<int> ArtifactFolder::OpenToRead(std::string_view sha256) const {
  LOUPE_ASSIGN_OR_RETURN(const std::string path, PathOf(sha256));
  const std::string folder = path.substr(0, path.rfind('/'));
  const int folder_fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  // O_NONBLOCK: a pipe in the place of a file must not hold the call up.
  const int fd = folder_fd < 0
                     ? -1
                     : ::openat(folder_fd, std::string(sha256).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  const int error = errno;
  if (folder_fd >= 0) ::close(folder_fd);
  if (fd < 0 && (error == EMFILE || error == ENFILE))
    return absl::ErrnoToStatus(error, fmt::format("cannot open '{}'", path));
  struct stat info {};
  if (fd >= 0 && ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) return fd;
  if (fd >= 0) ::close(fd);
  return absl::DataLossError(
      fmt::format("the file of artifact {} is missing in the data folder, or is no plain file", sha256));
}

absl::Status ArtifactFolder::ForEachBlock(std::string_view sha256,
                                          const std::function<absl::Status(std::string_view)>& on_block) const {
  LOUPE_ASSIGN_OR_RETURN(const int fd, OpenToRead(sha256));
  Sha256 digest;
  std::string buffer(1 << 18, '\0');
  absl::Status status;
  ssize_t got = 0;
  while (status.ok() && ((got = ::read(fd, buffer.data(), buffer.size())) > 0 || (got < 0 && errno == EINTR))) {
    if (got < 0) continue;
    const std::string_view block(buffer.data(), static_cast<size_t>(got));
    digest.Update(block);
    status = on_block(block);
  }
  if (got < 0) status = absl::ErrnoToStatus(errno, fmt::format("cannot read artifact {}", sha256));
  ::close(fd);
  if (!status.ok() || digest.FinishHex() == sha256) return status;
  return absl::DataLossError(
      fmt::format("the content of artifact {} has changed: it no longer has its digest", sha256));
}

absl::StatusOr<std::string> ArtifactFolder::Read(std::string_view sha256) const {
  std::string content;
  LOUPE_RETURN_IF_ERROR(ForEachBlock(sha256, [&](std::string_view block) {
    content.append(block);
    return absl::OkStatus();
  }));
  return content;
}

absl::StatusOr<std::vector<std::string>> ArtifactFolder::List() const {
  std::vector<std::string> digests;
  std::error_code error;
  std::filesystem::recursive_directory_iterator it(root_, error);
  for (; !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (IsDigest(name)) digests.push_back(name);
  }
  if (error) return absl::InternalError(fmt::format("cannot list '{}': {}", root_, error.message()));
  std::sort(digests.begin(), digests.end());
  return digests;
}

}  // namespace loupe::coordinator::store
