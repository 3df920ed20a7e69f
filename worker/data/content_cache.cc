#include "worker/data/content_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;

// Held while the entry is made; the kernel lets go of it when the process dies.
class LockFile {
 public:
  static absl::StatusOr<LockFile> Open(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0) {
      return absl::PermissionDeniedError(
          fmt::format("{}: cannot be made ({})", path, std::generic_category().message(errno)));
    }
    return LockFile(descriptor);
  }
  LockFile(LockFile&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  LockFile& operator=(LockFile&&) = delete;
  ~LockFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  bool TryLock() const { return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0; }

 private:
  explicit LockFile(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace

absl::StatusOr<std::string> ContentCache::GetOrMake(const std::string& kind, const std::string& key,
                                                    const std::function<absl::Status(const std::string& path)>& make,
                                                    const std::function<void()>& while_waiting) const {
  const std::string folder = root_ + "/" + kind, path = folder + "/" + key;
  std::error_code error;
  if (fs::exists(path, error)) return path;
  fs::create_directories(folder, error);
  if (error) return absl::PermissionDeniedError(fmt::format("{}: cannot be made ({})", folder, error.message()));
  LOUPE_ASSIGN_OR_RETURN(const LockFile lock, LockFile::Open(path + ".lock"));
  while (!lock.TryLock()) {
    if (while_waiting) while_waiting();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  // Another process may have made it while this one waited. The lock file stays: removing it would let two in.
  if (fs::exists(path, error)) return path;
  LOUPE_RETURN_IF_ERROR(make(path));
  return path;
}

}  // namespace loupe::worker
