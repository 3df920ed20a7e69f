#include "coordinator/store/upkeep/copies.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <set>
#include <system_error>

#include "common/status_macros.h"
#include "coordinator/store/artifact_folder.h"
#include "coordinator/store/lock_file.h"
#include "coordinator/store/tables/artifacts_table.h"
#include "fmt/format.h"

namespace loupe::coordinator::store::upkeep {
namespace {

namespace fs = std::filesystem;

constexpr char kPartialRestore[] = "/restore.partial";

absl::Status FromErrorCode(const std::error_code& error, const std::string& doing) {
  return error ? absl::ErrnoToStatus(error.value(), doing) : absl::OkStatus();
}

// Without slashes at its end: "copies/monday/" names the folder that "copies/monday" names.
std::string Plain(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

absl::Status MakeFolders(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  LOUPE_RETURN_IF_ERROR(FromErrorCode(error, fmt::format("cannot make the folder '{}'", path)));
  fs::permissions(path, fs::perms::owner_all, error);
  return FromErrorCode(error, fmt::format("cannot keep others out of the folder '{}'", path));
}

// Everything of the file system that `path` is on: an error of an earlier write shows here at the latest.
absl::Status SyncFileSystemOf(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot open the folder '{}'", path));
  const int result = ::syncfs(fd);
  const int error = errno;
  ::close(fd);
  return result == 0 ? absl::OkStatus() : absl::ErrnoToStatus(error, fmt::format("cannot sync '{}'", path));
}

class Copier {
 public:
  Copier(const std::string& from, const ProgressFn& progress) : from_(from), progress_(progress) {}

  // Everything that CopyTo would read, read and checked.
  absl::Status Verify() {
    LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<SqliteDb> db, OpenDatabase(from_));
    LOUPE_RETURN_IF_ERROR(CheckIntegrity(*db));
    return EachArtifact(*db, "checking artifacts", [&](const ArtifactFolder& folder, const std::string& sha256) {
      return folder.ForEachBlock(sha256, [&](std::string_view block) { return Advance(block); });
    });
  }

  // Into the empty folder `to`. The copy is checked, and on the disk.
  absl::StatusOr<DataCounts> CopyTo(const std::string& to, const std::string& earlier) {
    LOUPE_RETURN_IF_ERROR(CopyDatabase(to + kDatabaseFile));
    LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<SqliteDb> copy, OpenDatabase(to));
    LOUPE_RETURN_IF_ERROR(CheckIntegrity(*copy));
    const absl::StatusOr<ArtifactFolder> shared = ArtifactFolder::Existing(earlier + kArtifactsFolder);
    const ArtifactFolder* const other = !earlier.empty() && shared.ok() ? &*shared : nullptr;
    // Artifacts come after the snapshot: each that it refers to was durable before it, and none is ever changed.
    LOUPE_RETURN_IF_ERROR(
        EachArtifact(*copy, "copying artifacts", [&](const ArtifactFolder& folder, const std::string& sha256) {
          return CopyArtifact(folder, sha256, to + kArtifactsFolder, other);
        }));
    LOUPE_RETURN_IF_ERROR(SyncFileSystemOf(to));
    return CountData(*copy);
  }

 private:
  absl::Status CopyDatabase(const std::string& target) {
    LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<SqliteDb> source, OpenDatabase(from_));
    int64_t bytes = 0;
    LOUPE_RETURN_IF_ERROR(source->ForEach("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
                                          [&](const SqliteRow& row) { bytes = row.Int(0); }));
    const auto state = [&] {
      std::error_code missing;
      const auto written = static_cast<int64_t>(fs::file_size(target, missing));
      return WorkProgress{"copying the database", missing ? 0 : written, bytes};
    };
    // VACUUM INTO reads one snapshot and writes a whole new file; commits go on meanwhile.
    LOUPE_RETURN_IF_ERROR(source->Execute("PRAGMA query_only=OFF"));
    const absl::Status status =
        WithProgress(*source, progress_, state, [&] { return source->Run("VACUUM INTO ?", std::string_view(target)); });
    if (!absl::IsResourceExhausted(status)) return status;
    return absl::ResourceExhaustedError(fmt::format(
        "no space left for '{}', which needs up to {} bytes: free some, or choose another folder", target, bytes));
  }

  absl::Status CheckIntegrity(SqliteDb& db) const {
    LOUPE_ASSIGN_OR_RETURN(const std::vector<std::string> findings, IntegrityFindings(db, 1, progress_));
    if (findings.empty()) return absl::OkStatus();
    return absl::DataLossError(fmt::format("'{}' is damaged: {}", db.path(), findings.front()));
  }

  absl::Status EachArtifact(SqliteDb& db, std::string_view step,
                            const std::function<absl::Status(const ArtifactFolder&, const std::string&)>& body) {
    LOUPE_ASSIGN_OR_RETURN(const std::set<std::string> digests, artifacts_table::Digests(db));
    if (digests.empty()) return absl::OkStatus();
    LOUPE_ASSIGN_OR_RETURN(const DataCounts counts, CountData(db));
    state_ = {.step = step, .done_bytes = 0, .total_bytes = counts.artifact_bytes};
    LOUPE_ASSIGN_OR_RETURN(const ArtifactFolder folder, ArtifactFolder::Existing(from_ + kArtifactsFolder));
    for (const std::string& sha256 : digests) {
      LOUPE_RETURN_IF_ERROR(Annotate(body(folder, sha256), fmt::format("'{}'", from_)));
    }
    return absl::OkStatus();
  }

  // From `folder`, or as a hard link to `earlier`'s; checked either way.
  absl::Status CopyArtifact(const ArtifactFolder& folder, const std::string& sha256, const std::string& to,
                            const ArtifactFolder* earlier) {
    const std::string shard = fmt::format("{}/{}", to, sha256.substr(0, 2));
    const std::string target = fmt::format("{}/{}", shard, sha256);
    LOUPE_RETURN_IF_ERROR(MakeFolders(shard));
    if (earlier != nullptr) {
      // A file that is missing there, or was damaged there, is copied afresh.
      const WorkProgress before = state_;
      const absl::Status sound = earlier->ForEachBlock(sha256, [&](std::string_view block) { return Advance(block); });
      if (absl::IsCancelled(sound)) return sound;
      if (sound.ok() && ::link(earlier->PathOf(sha256)->c_str(), target.c_str()) == 0) return absl::OkStatus();
      state_ = before;
    }
    const int fd = ::open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot create '{}'", target));
    absl::Status status = folder.ForEachBlock(sha256, [&](std::string_view block) -> absl::Status {
      LOUPE_RETURN_IF_ERROR(Advance(block));
      while (!block.empty()) {
        const ssize_t wrote = ::write(fd, block.data(), block.size());
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot write '{}'", target));
        block.remove_prefix(static_cast<size_t>(wrote));
      }
      return absl::OkStatus();
    });
    if (::close(fd) != 0 && status.ok()) status = absl::ErrnoToStatus(errno, fmt::format("cannot write '{}'", target));
    return status;
  }

  absl::Status Advance(std::string_view block) {
    state_.done_bytes += static_cast<int64_t>(block.size());
    if (!progress_ || progress_(state_)) return absl::OkStatus();
    return absl::CancelledError("interrupted");
  }

  const std::string from_;
  const ProgressFn& progress_;
  WorkProgress state_;
};

// ALREADY_EXISTS unless it is missing or empty, but for what a killed restore leaves: that began in an empty folder
// too.
absl::Status CheckEmpty(const std::string& folder) {
  std::error_code error;
  const bool cut_off = fs::exists(folder + kPartialRestore, error);
  if (!fs::exists(folder, error)) return absl::OkStatus();
  if (!fs::is_directory(folder, error))
    return absl::AlreadyExistsError(fmt::format("'{}' is a file: give a new folder", folder));
  fs::directory_iterator entries(folder, error);
  LOUPE_RETURN_IF_ERROR(FromErrorCode(error, fmt::format("cannot look into '{}'", folder)));
  for (const auto& entry : entries) {
    const std::string name = "/" + entry.path().filename().string();
    if (name == kLockFile || (cut_off && (name == kPartialRestore || name == kArtifactsFolder))) continue;
    return absl::AlreadyExistsError(
        fmt::format("'{}' is not empty ('{}' is in it): restore into a new folder, or move this one away first", folder,
                    name.substr(1)));
  }
  return absl::OkStatus();
}

// Gives what lies in `partial` its place in `folder`; the database last.
absl::Status MoveIn(const std::string& partial, const std::string& folder) {
  for (const char* part : {kArtifactsFolder, kDatabaseFile}) {
    std::error_code error;
    if (!fs::exists(partial + part, error)) continue;
    fs::rename(partial + part, folder + part, error);
    LOUPE_RETURN_IF_ERROR(FromErrorCode(error, fmt::format("cannot move '{}' into '{}'", partial + part, folder)));
  }
  return SyncFileSystemOf(folder);
}

}  // namespace

absl::StatusOr<DataCounts> BackupData(const std::string& data_folder, const std::string& to, const std::string& earlier,
                                      const ProgressFn& progress) {
  const std::string target = Plain(to);
  std::error_code error;
  if (fs::exists(fs::symlink_status(target, error))) {
    return absl::AlreadyExistsError(
        fmt::format("'{}' is there already: a backup never overwrites, give a new folder", target));
  }
  // Before any folder is made.
  LOUPE_RETURN_IF_ERROR(OpenDatabase(data_folder).status());
  const std::string partial = target + ".partial";
  fs::remove_all(partial, error);
  const auto make = [&]() -> absl::StatusOr<DataCounts> {
    LOUPE_RETURN_IF_ERROR(MakeFolders(partial));
    LOUPE_ASSIGN_OR_RETURN(const DataCounts counts, Copier(data_folder, progress).CopyTo(partial, earlier));
    std::error_code renamed;
    fs::rename(partial, target, renamed);
    LOUPE_RETURN_IF_ERROR(FromErrorCode(renamed, fmt::format("cannot rename '{}' to '{}'", partial, target)));
    LOUPE_RETURN_IF_ERROR(SyncFileSystemOf(target));
    return counts;
  };
  const absl::StatusOr<DataCounts> counts = make();
  if (counts.ok()) return counts;
  fs::remove_all(partial, error);
  return Annotate(counts.status(), fmt::format("no backup of '{}' was made", data_folder));
}

absl::StatusOr<DataCounts> RestoreData(const std::string& from, const std::string& data_folder,
                                       const ProgressFn& progress) {
  LOUPE_RETURN_IF_ERROR(CheckEmpty(data_folder));
  Copier copier(from, progress);
  LOUPE_RETURN_IF_ERROR(Annotate(copier.Verify(), fmt::format("'{}' is not restored", from)));
  std::error_code error;
  const bool made = !fs::exists(data_folder, error);
  LOUPE_RETURN_IF_ERROR(MakeFolders(data_folder));
  LOUPE_ASSIGN_OR_RETURN(std::unique_ptr<LockFile> lock, LockFile::Acquire(data_folder + kLockFile));
  // Again, now that no coordinator can begin to work in it.
  LOUPE_RETURN_IF_ERROR(CheckEmpty(data_folder));
  const std::string partial = data_folder + kPartialRestore;
  fs::remove_all(data_folder + kArtifactsFolder, error);
  fs::remove_all(partial, error);
  const auto make = [&]() -> absl::StatusOr<DataCounts> {
    LOUPE_RETURN_IF_ERROR(MakeFolders(partial));
    LOUPE_ASSIGN_OR_RETURN(const DataCounts copied, copier.CopyTo(partial, ""));
    LOUPE_RETURN_IF_ERROR(MoveIn(partial, data_folder));
    return copied;
  };
  const absl::StatusOr<DataCounts> counts = make();
  fs::remove_all(partial, error);
  if (counts.ok()) return counts;
  fs::remove(data_folder + kDatabaseFile, error);
  fs::remove_all(data_folder + kArtifactsFolder, error);
  fs::remove(data_folder + kLockFile, error);
  if (made) fs::remove(data_folder, error);
  return Annotate(counts.status(), fmt::format("'{}' is not restored", from));
}

}  // namespace loupe::coordinator::store::upkeep
