// Table `workers`.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::store::workers_table {

absl::Status Upsert(SqliteDb& db, const scheduler::WorkerRecord& worker);
// Of a worker that is there.
absl::Status Count(SqliteDb& db, const scheduler::CountWorker& count);
absl::Status Delete(SqliteDb& db, const std::string& worker);
absl::Status ForEach(SqliteDb& db, const std::function<void(scheduler::WorkerRecord)>& fn);

}  // namespace loupe::coordinator::store::workers_table
