#include "coordinator/store/doctor.h"

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <set>
#include <system_error>

#include "common/sha256.h"
#include "common/status_macros.h"
#include "coordinator/store/artifact_folder.h"
#include "coordinator/store/artifacts_table.h"
#include "coordinator/store/lock_file.h"
#include "coordinator/store/migrations.h"
#include "coordinator/store/sqlite_db.h"
#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

namespace fs = std::filesystem;

constexpr char kDatabase[] = "/coordinator.db";
constexpr char kArtifacts[] = "/artifacts";

constexpr char kResultsWithoutSuccessSql[] =
    "SELECT s.sweep_id, r.trial_index FROM results AS r JOIN trials AS t USING (sweep_key, trial_index) "
    "JOIN sweeps AS s USING (sweep_key) WHERE t.state <> 3 OR t.epoch <> r.epoch ORDER BY s.sweep_id, r.trial_index LIMIT 20";
constexpr char kSuccessWithoutResultSql[] =
    "SELECT s.sweep_id, t.trial_index FROM trials AS t JOIN sweeps AS s USING (sweep_key) WHERE t.state = 3 AND NOT EXISTS "
    "(SELECT 1 FROM results AS r WHERE r.sweep_key = t.sweep_key AND r.trial_index = t.trial_index) "
    "ORDER BY s.sweep_id, t.trial_index LIMIT 20";
constexpr char kMissingTrialsSql[] =
    "SELECT s.sweep_id, s.cell_count * s.replicates, (SELECT count(*) FROM trials AS t WHERE t.sweep_key = s.sweep_key) AS n "
    "FROM sweeps AS s WHERE n <> s.cell_count * s.replicates ORDER BY s.sweep_id";

absl::Status FromErrorCode(const std::error_code& error, const std::string& doing) {
  return error ? absl::ErrnoToStatus(error.value(), doing) : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SqliteDb>> OpenForReading(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(std::unique_ptr<SqliteDb> db, SqliteDb::Open(path, SqliteDb::Mode::kReadOnly, ""));
  LOUPE_RETURN_IF_ERROR(CheckSchema(*db));
  return db;
}

absl::Status CheckIntegrity(SqliteDb& db) {
  std::string verdict;
  LOUPE_RETURN_IF_ERROR(db.ForEach("PRAGMA integrity_check(1)", [&](const SqliteRow& row) { verdict = row.Text(0); }));
  return verdict == "ok" ? absl::OkStatus() : absl::DataLossError(fmt::format("'{}': {}", db.path(), verdict));
}

// Copies one artifact, or shares it with an earlier copy, and checks its digest on the way out.
absl::Status CopyArtifact(const std::string& sha256, const ArtifactFolder& from, const ArtifactFolder& to,
                          const ArtifactFolder* earlier) {
  LOUPE_ASSIGN_OR_RETURN(const std::string source, from.PathOf(sha256));
  LOUPE_ASSIGN_OR_RETURN(const std::string target, to.PathOf(sha256));
  std::error_code error;
  fs::create_directories(fs::path(target).parent_path(), error);
  LOUPE_RETURN_IF_ERROR(FromErrorCode(error, fmt::format("cannot make the folder of '{}'", target)));
  if (earlier != nullptr) {
    LOUPE_ASSIGN_OR_RETURN(const std::string shared, earlier->PathOf(sha256));
    // A file that is missing there, or was damaged there, is copied afresh.
    const absl::StatusOr<std::string> digest = Sha256HexOfFile(shared);
    if (digest.ok() && *digest == sha256 && ::link(shared.c_str(), target.c_str()) == 0) return absl::OkStatus();
  }
  fs::copy_file(source, target, fs::copy_options::skip_existing, error);
  LOUPE_RETURN_IF_ERROR(FromErrorCode(error, fmt::format("cannot copy '{}'", source)));
  LOUPE_ASSIGN_OR_RETURN(const std::string found, Sha256HexOfFile(target));
  if (found == sha256) return absl::OkStatus();
  return absl::DataLossError(fmt::format("'{}' does not have the digest that is its name: it is damaged", source));
}

absl::Status CopyData(const std::string& from, const std::string& to, const std::string& earlier) {
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<SqliteDb> source, OpenForReading(from + kDatabase));
  // VACUUM INTO reads one snapshot and writes a whole new file; commits go on meanwhile.
  LOUPE_RETURN_IF_ERROR(source->Execute("PRAGMA query_only=OFF"));
  const std::string copy_path = to + kDatabase;
  LOUPE_RETURN_IF_ERROR(source->Run("VACUUM INTO ?", std::string_view(copy_path)));
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<SqliteDb> copy, OpenForReading(copy_path));
  LOUPE_RETURN_IF_ERROR(CheckIntegrity(*copy));
  // Artifacts come after the snapshot: each that it refers to was durable before it, and none is ever changed.
  LOUPE_ASSIGN_OR_RETURN(const std::set<std::string> digests, artifacts_table::Digests(*copy));
  if (digests.empty()) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<ArtifactFolder> target, ArtifactFolder::Open(to + kArtifacts));
  const ArtifactFolder* const all = target.get();
  LOUPE_ASSIGN_OR_RETURN(const ArtifactFolder origin, ArtifactFolder::Existing(from + kArtifacts));
  const absl::StatusOr<ArtifactFolder> shared = ArtifactFolder::Existing(earlier + kArtifacts);
  const ArtifactFolder* const other = !earlier.empty() && shared.ok() ? &*shared : nullptr;
  for (const std::string& sha256 : digests) LOUPE_RETURN_IF_ERROR(CopyArtifact(sha256, origin, *all, other));
  return absl::OkStatus();
}

}  // namespace

absl::Status BackupData(const std::string& data_folder, const std::string& to, const std::string& earlier) {
  std::error_code error;
  if (fs::exists(to, error)) {
    return absl::AlreadyExistsError(fmt::format("'{}' is there already: a backup never overwrites, give a new folder", to));
  }
  const std::string partial = to + ".partial";
  fs::remove_all(partial, error);
  fs::create_directories(partial, error);
  LOUPE_RETURN_IF_ERROR(FromErrorCode(error, fmt::format("cannot make the folder '{}'", partial)));
  absl::Status status = CopyData(data_folder, partial, earlier);
  if (status.ok()) {
    ::sync();
    fs::rename(partial, to, error);
    status = FromErrorCode(error, fmt::format("cannot rename '{}' to '{}'", partial, to));
  }
  if (!status.ok()) fs::remove_all(partial, error);
  return Annotate(status, fmt::format("backup of '{}'", data_folder));
}

absl::Status RestoreData(const std::string& from, const std::string& data_folder) {
  std::error_code error;
  fs::create_directories(data_folder, error);
  LOUPE_RETURN_IF_ERROR(FromErrorCode(error, fmt::format("cannot make the folder '{}'", data_folder)));
  fs::permissions(data_folder, fs::perms::owner_all, error);
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<LockFile> lock, LockFile::Acquire(data_folder + "/lock"));
  if (fs::exists(data_folder + kDatabase, error)) {
    return absl::AlreadyExistsError(
        fmt::format("'{}' holds a database already: restore into a new folder, or move the old one away", data_folder));
  }
  const absl::Status status = CopyData(from, data_folder, "");
  if (!status.ok()) fs::remove(data_folder + kDatabase, error);
  return Annotate(status, fmt::format("restore from '{}'", from));
}

absl::StatusOr<std::vector<std::string>> Examine(const std::string& data_folder) {
  std::vector<std::string> findings;
  absl::StatusOr<std::unique_ptr<SqliteDb>> opened = OpenForReading(data_folder + kDatabase);
  LOUPE_RETURN_IF_ERROR(opened.status());
  SqliteDb& db = **opened;
  const auto note_trial = [&](std::string_view what) {
    return [&findings, what](const SqliteRow& row) {
      findings.push_back(fmt::format("sweeps/{}/trials/{}: {}", row.Text(0), row.Int(1), what));
    };
  };
  LOUPE_RETURN_IF_ERROR(db.ForEach("PRAGMA integrity_check(20)", [&](const SqliteRow& row) {
    if (row.Text(0) != "ok") findings.push_back("integrity_check: " + row.Text(0));
  }));
  if (!findings.empty()) return findings;
  LOUPE_RETURN_IF_ERROR(db.ForEach("PRAGMA foreign_key_check", [&](const SqliteRow& row) {
    findings.push_back(fmt::format("a row of table {} refers to a row of {} that is not there", row.Text(0), row.Text(2)));
  }));
  LOUPE_RETURN_IF_ERROR(db.ForEach(kResultsWithoutSuccessSql, note_trial("has a result, but has not succeeded")));
  LOUPE_RETURN_IF_ERROR(db.ForEach(kSuccessWithoutResultSql, note_trial("has succeeded, but has no result")));
  LOUPE_RETURN_IF_ERROR(db.ForEach(kMissingTrialsSql, [&](const SqliteRow& row) {
    findings.push_back(fmt::format("sweeps/{}: {} trials planned, {} stored", row.Text(0), row.Int(1), row.Int(2)));
  }));
  LOUPE_ASSIGN_OR_RETURN(const std::set<std::string> referenced, artifacts_table::Digests(db));
  std::vector<std::string> present;
  absl::StatusOr<ArtifactFolder> folder = ArtifactFolder::Existing(data_folder + kArtifacts);
  if (folder.ok()) {
    LOUPE_ASSIGN_OR_RETURN(present, folder->List());
  }
  const std::set<std::string> files(present.begin(), present.end());
  for (const std::string& sha256 : referenced) {
    if (!files.contains(sha256)) findings.push_back(fmt::format("artifact {}: its file is missing", sha256));
  }
  for (const std::string& sha256 : files) {
    LOUPE_ASSIGN_OR_RETURN(const std::string path, folder->PathOf(sha256));
    LOUPE_ASSIGN_OR_RETURN(const std::string found, Sha256HexOfFile(path));
    if (found != sha256) findings.push_back(fmt::format("artifact {}: its content has changed", sha256));
    if (!referenced.contains(sha256)) findings.push_back(fmt::format("artifact {}: no attempt refers to it (an upload that was cut off; may be deleted)", sha256));
  }
  return findings;
}

}  // namespace loupe::coordinator
