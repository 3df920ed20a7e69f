// Table `requests`: what makes a repeated request find its first answer.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::store::requests_table {

absl::Status Insert(SqliteDb& db, const scheduler::RecordRequest& request);
// Oldest first.
absl::Status ForEach(SqliteDb& db, const std::function<void(scheduler::RecordRequest)>& fn);

}  // namespace loupe::coordinator::store::requests_table
