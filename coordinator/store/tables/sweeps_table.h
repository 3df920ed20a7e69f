// Table `sweeps`.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/model.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::store::sweeps_table {

absl::Status Insert(SqliteDb& db, const scheduler::SweepRecord& sweep);  // its job is jobs_table's business
// State, reason, priority, update and end time, revision.
absl::Status UpdateState(SqliteDb& db, const scheduler::SweepRecord& sweep);

// NOT_FOUND names the sweep.
absl::StatusOr<scheduler::SweepRecord> Get(SqliteDb& db, const std::string& id);
absl::Status ForEachByKey(SqliteDb& db, const std::function<void(scheduler::SweepRecord)>& fn);
absl::StatusOr<std::vector<scheduler::SweepRecord>> ListNewestFirst(SqliteDb& db, scheduler::SweepKey before,
                                                                    int64_t limit);

}  // namespace loupe::coordinator::store::sweeps_table
