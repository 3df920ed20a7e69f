// Table `sweeps`.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/model.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::sweeps_table {

absl::Status Insert(SqliteDb& db, const SweepRecord& sweep);  // its job is jobs_table's business
// State, reason, priority, update and end time, revision.
absl::Status UpdateState(SqliteDb& db, const SweepRecord& sweep);

// NOT_FOUND names the sweep.
absl::StatusOr<SweepRecord> Get(SqliteDb& db, const std::string& id);
absl::Status ForEachByKey(SqliteDb& db, const std::function<void(SweepRecord)>& fn);
absl::StatusOr<std::vector<SweepRecord>> ListNewestFirst(SqliteDb& db, SweepKey before, int64_t limit);

}  // namespace loupe::coordinator::sweeps_table
