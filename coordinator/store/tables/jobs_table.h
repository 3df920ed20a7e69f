// Table `jobs`: what is still to be done to all of a sweep's trials; and the step that removes a sweep's rows.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::store::jobs_table {

absl::Status Put(SqliteDb& db, const scheduler::PutJob& put);
absl::Status Remove(SqliteDb& db, scheduler::SweepKey sweep);

// Removes about `most_rows` rows of the sweep: those that refer to others first, its own row last. Whether it is gone.
absl::StatusOr<bool> Purge(SqliteDb& db, scheduler::SweepKey sweep, int64_t most_rows);

}  // namespace loupe::coordinator::store::jobs_table
