// A data folder as its upkeep sees it: where things lie, the database opened for reading, how long work tells of
// itself.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::store {

// In every data folder, and in every copy of one.
inline constexpr char kDatabaseFile[] = "/coordinator.db";
inline constexpr char kArtifactsFolder[] = "/artifacts";
// Held by the one process that may change the folder (lock_file.h).
inline constexpr char kLockFile[] = "/lock";

struct DataCounts {
  int64_t sweeps = 0;
  int64_t trials = 0;
  int64_t results = 0;
  // Different contents, and their bytes: what two trials share counts once.
  int64_t artifacts = 0;
  int64_t artifact_bytes = 0;
};

// How far long work is.
struct WorkProgress {
  std::string_view step;  // "copying the database"
  int64_t done_bytes = 0;
  int64_t total_bytes = 0;  // 0 where nobody knows
};
// Called many times a second, on the thread that works. Returns whether to go on: after a `false` the work cleans up
// and ends with CANCELLED. May be empty.
using ProgressFn = std::function<bool(const WorkProgress&)>;

// The folder's database for reading; a coordinator may run meanwhile. NOT_FOUND when there is none, FAILED_PRECONDITION
// for a newer schema and for a database of some other program, DATA_LOSS for a damaged file. An older schema is read as
// it is.
absl::StatusOr<std::unique_ptr<SqliteDb>> OpenDatabase(const std::string& folder);

absl::StatusOr<DataCounts> CountData(SqliteDb& db);

// Runs `body`, whose statements on `db` may take long: `progress` is told what `state` returns. `body`'s status, or
// CANCELLED.
absl::Status WithProgress(SqliteDb& db, const ProgressFn& progress, const std::function<WorkProgress()>& state,
                          const std::function<absl::Status()>& body);

// What integrity_check finds, a line each, at most `most`; empty when the file is sound. Reads all of it.
absl::StatusOr<std::vector<std::string>> IntegrityFindings(SqliteDb& db, int most, const ProgressFn& progress);

}  // namespace loupe::coordinator::store
