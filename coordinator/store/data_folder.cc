#include "coordinator/store/data_folder.h"

#include <filesystem>
#include <system_error>

#include "common/status_macros.h"
#include "coordinator/store/migrations.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {
namespace {

constexpr char kCountSql[] =
    "SELECT (SELECT count(*) FROM sweeps), (SELECT count(*) FROM trials), (SELECT count(*) FROM results), count(*), "
    "coalesce(sum(size_bytes), 0) FROM (SELECT max(size_bytes) AS size_bytes FROM artifacts GROUP BY sha256)";
constexpr char kIntegritySql[] = "PRAGMA integrity_check";

// Between two calls of `progress`, in instructions of SQLite's virtual machine: a few milliseconds.
constexpr int kInstructions = 100000;

struct Watch {
  const ProgressFn& progress;
  const std::function<WorkProgress()>& state;
  bool cancelled = false;
};

int OnInstructions(void* self) {
  auto& watch = *static_cast<Watch*>(self);
  watch.cancelled = !watch.progress(watch.state());
  return watch.cancelled ? 1 : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteDb>> OpenDatabase(const std::string& folder) {
  const std::string path = folder + kDatabaseFile;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return absl::NotFoundError(fmt::format("'{}' is no data folder: there is no '{}'", folder, path));
  }
  LOUPE_ASSIGN_OR_RETURN(std::unique_ptr<SqliteDb> db, SqliteDb::Open(path, SqliteDb::Mode::kReadOnly, ""));
  LOUPE_ASSIGN_OR_RETURN(const int version, StoredSchemaVersion(*db));
  if (version > 0) return db;
  return absl::FailedPreconditionError(fmt::format("'{}' is empty: no coordinator has ever run on it", path));
}

absl::StatusOr<DataCounts> CountData(SqliteDb& db) {
  DataCounts counts;
  LOUPE_RETURN_IF_ERROR(db.ForEach(kCountSql, [&](const SqliteRow& row) {
    counts = {.sweeps = row.Int(0),
              .trials = row.Int(1),
              .results = row.Int(2),
              .artifacts = row.Int(3),
              .artifact_bytes = row.Int(4)};
  }));
  return counts;
}

absl::Status WithProgress(SqliteDb& db, const ProgressFn& progress, const std::function<WorkProgress()>& state,
                          const std::function<absl::Status()>& body) {
  if (!progress) return body();
  Watch watch{.progress = progress, .state = state};
  sqlite3_progress_handler(db.handle(), kInstructions, &OnInstructions, &watch);
  const absl::Status status = body();
  sqlite3_progress_handler(db.handle(), 0, nullptr, nullptr);
  return watch.cancelled ? absl::CancelledError("interrupted") : status;
}

absl::StatusOr<std::vector<std::string>> IntegrityFindings(SqliteDb& db, int most, const ProgressFn& progress) {
  std::vector<std::string> findings;
  LOUPE_RETURN_IF_ERROR(WithProgress(
      db, progress, [] { return WorkProgress{.step = "checking the database"}; },
      [&] {
        return db.ForEach(kIntegritySql, [&](const SqliteRow& row) {
          if (row.Text(0) != "ok" && static_cast<int>(findings.size()) < most) findings.push_back(row.Text(0));
        });
      }));
  return findings;
}

}  // namespace loupe::coordinator::store
