#include "coordinator/store/data_guard.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "coordinator/store/data_folder.h"
#include "coordinator/store/migrations.h"
#include "coordinator/store/sqlite_db.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {
namespace {

constexpr char kRunningFile[] = "/running";
constexpr char kCountArtifactsSql[] = "SELECT count(*) FROM (SELECT 1 FROM artifacts LIMIT 1)";

bool Exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

// Nanoseconds since 1970 of the last write; 0 when there is no such file.
int64_t WrittenAt(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return 0;
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

// What only a coordinator that has run leaves in its folder. (Tokens may be added before the first start.)
std::vector<std::string> TracesOf(const std::string& folder) {
  std::vector<std::string> traces;
  for (const char* name : {"/artifacts", "/audit.log", "/running", "/coordinator.db-wal", "/token"}) {
    if (Exists(folder + name)) traces.push_back(name + 1);
  }
  return traces;
}

std::string Listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i)
    text += fmt::format("{}'{}'", i == 0 ? "" : i + 1 == names.size() ? " and " : ", ", names[i]);
  return text;
}

absl::Status CheckLog(const std::string& folder) {
  const std::string database = folder + kDatabaseFile;
  const absl::StatusOr<std::string> running = ReadFile(folder + kRunningFile);
  if (!running.ok() || Exists(database + "-wal")) return absl::OkStatus();
  int64_t written = 0;
  if (std::sscanf(running->c_str(), "database written at %" SCNd64, &written) != 1 || written != WrittenAt(database)) {
    // Written since: another program has taken the log over into the database, which loses nothing.
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(fmt::format(
      "the last coordinator on '{0}' was killed, and '{0}/coordinator.db-wal', which holds its last commits, is gone: put it "
      "back beside coordinator.db, or restore a backup; to go on without those commits remove '{0}{1}'",
      folder, kRunningFile));
}

}  // namespace

std::optional<FileIdentity> IdentityOf(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  return FileIdentity{info.st_dev, info.st_ino};
}

absl::Status CheckDataFolder(const std::string& folder) {
  const std::string database = folder + kDatabaseFile;
  const std::vector<std::string> traces = TracesOf(folder);
  int version = 0;
  if (Exists(database)) {
    LOUPE_RETURN_IF_ERROR(CheckLog(folder));
    LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<SqliteDb> db, SqliteDb::Open(database, SqliteDb::Mode::kReadOnly, ""));
    LOUPE_ASSIGN_OR_RETURN(version, StoredSchemaVersion(*db));
    if (version > 0 && !Exists(folder + kArtifactsFolder)) {
      bool any = false;
      LOUPE_RETURN_IF_ERROR(db->ForEach(kCountArtifactsSql, [&](const SqliteRow& row) { any = row.Int(0) > 0; }));
      if (any) {
        return absl::FailedPreconditionError(fmt::format(
            "the database names artifacts, and their folder '{0}{1}' is gone: put it back, or restore a backup; to go on "
            "without them make an empty folder of that name",
            folder, kArtifactsFolder));
      }
    }
  }
  if (version > 0 || traces.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "'{}' is {}, and {} beside it {} of a coordinator that has run here: put the database back, or restore a backup into another "
      "folder; to begin anew give an empty folder",
      database, Exists(database) ? "empty" : "missing", Listed(traces), traces.size() == 1 ? "is" : "are"));
}

void RunningMark::Update() const {
  std::ofstream(folder_ + kRunningFile, std::ios::trunc)
      << fmt::format("database written at {}\n", WrittenAt(folder_ + kDatabaseFile));
}

RunningMark::~RunningMark() { ::unlink((folder_ + kRunningFile).c_str()); }

}  // namespace loupe::coordinator::store
