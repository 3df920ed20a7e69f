#include "worker/tasks/tensor_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>

#include "absl/status/statusor.h"
#include "common/logging.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::tasks {
namespace {

namespace fs = std::filesystem;

constexpr char kDigestKey[] = "loupe.arrays_sha256";

// Held while an entry is made; the kernel lets go of it when the process dies.
class LockFile {
 public:
  explicit LockFile(const std::string& path) : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0)
      throw runtime::UserError(fmt::format("{}: cannot be made ({})", path, std::generic_category().message(errno)));
  }
  ~LockFile() { ::close(descriptor_); }
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;
  bool TryLock() const { return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0; }

 private:
  const int descriptor_;
};

// NOT_FOUND when there is no entry, INVALID_ARGUMENT when it is damaged or was made by a network that is broken.
absl::StatusOr<train::TensorMap> Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const io::SafetensorsFile file, io::SafetensorsFile::Open(path));
  const auto digest = file.metadata().find(kDigestKey);
  if (digest == file.metadata().end() || digest->second != models::DigestOfArrays(file.arrays())) {
    return absl::InvalidArgumentError(fmt::format("{}: its arrays do not have the digest that it names", path));
  }
  train::TensorMap arrays;
  for (const auto& [name, view] : file.arrays()) {
    arrays[name] = models::ToTensor(view);
    if (const std::string found = runtime::DescribeNotFinite(arrays[name]); !found.empty()) {
      return absl::InvalidArgumentError(fmt::format("{}: '{}': {}", path, name, found));
    }
  }
  return arrays;
}

// What writers that were killed have left of this entry. Only by the holder of its lock.
void RemoveTemporaries(const fs::path& path) {
  std::error_code error;
  for (fs::directory_iterator files(path.parent_path(), error), end; !error && files != end; files.increment(error)) {
    const fs::path& file = files->path();
    if (file.extension() == ".tmp" && file.filename().string().starts_with(path.filename().string())) {
      fs::remove(file, error);
    }
  }
}

train::TensorMap MakeAndWrite(const std::string& path, const std::function<train::TensorMap()>& make) {
  const models::TensorArrays made = models::ToArrays(make());
  const absl::Status status =
      io::WriteSafetensors(path, made.views, {{kDigestKey, models::DigestOfArrays(made.views)}});
  if (!status.ok()) {
    LogWarning("a cache entry is not kept; it will be computed again: {}", std::string(status.message()));
  }
  train::TensorMap arrays;
  for (const auto& [name, view] : made.views) arrays[name] = models::ToTensor(view);
  return arrays;
}

}  // namespace

train::TensorMap TensorCache::GetOrMake(const std::string& kind, const std::string& key,
                                        const std::function<train::TensorMap()>& make,
                                        const std::function<void()>& while_waiting) const {
  const std::string folder = root_ + "/" + kind, path = folder + "/" + Sha256Hex(key) + ".safetensors";
  if (auto found = Read(path); found.ok()) return *std::move(found);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw runtime::UserError(fmt::format("{}: the cache folder cannot be made ({})", folder, error.message()));
  // The lock file stays: removing it would let two in.
  const LockFile lock(path + ".lock");
  while (!lock.TryLock()) {
    if (while_waiting) while_waiting();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  // Another process may have made it while this one waited.
  auto found = Read(path);
  if (found.ok()) return *std::move(found);
  if (!absl::IsNotFound(found.status())) {
    LogWarning("a damaged cache entry is made anew: {}", std::string(found.status().message()));
  }
  RemoveTemporaries(path);
  return MakeAndWrite(path, make);
}

}  // namespace loupe::worker::tasks
