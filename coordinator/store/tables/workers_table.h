// Table `workers`.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::workers_table {

absl::Status Upsert(SqliteDb& db, const WorkerRecord& worker);
// Of a worker that is there.
absl::Status Count(SqliteDb& db, const CountWorker& count);
absl::Status Delete(SqliteDb& db, const std::string& worker);
absl::Status ForEach(SqliteDb& db, const std::function<void(WorkerRecord)>& fn);

}  // namespace loupe::coordinator::workers_table
