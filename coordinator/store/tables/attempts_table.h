// Table `attempts`: one row per lease that was ever handed out.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/journal.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::store::attempts_table {

absl::Status Insert(SqliteDb& db, const scheduler::StartAttempt& start);
absl::Status End(SqliteDb& db, const scheduler::EndAttempt& end);
// Kept only where the token is the attempt's own.
absl::Status KeepSuperseded(SqliteDb& db, const scheduler::KeepSupersededResult& late);
absl::Status SetPointSequence(SqliteDb& db, scheduler::TrialKey trial, int64_t epoch, int64_t sequence);

// Latest start first.
absl::StatusOr<std::vector<AttemptRow>> List(SqliteDb& db, const AttemptFilter& filter);

absl::Status ForEachLive(SqliteDb& db, const std::function<void(LiveAttempt)>& fn);

}  // namespace loupe::coordinator::store::attempts_table
