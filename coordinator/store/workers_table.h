// Table `workers`.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "coordinator/scheduler/model.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::workers_table {

absl::Status Upsert(SqliteDb& db, const WorkerRecord& worker);
absl::Status ForEach(SqliteDb& db, const std::function<void(WorkerRecord)>& fn);

}  // namespace loupe::coordinator::workers_table
