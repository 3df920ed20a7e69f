// Tables `cells` and `trials`.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/journal.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::trials_table {

absl::Status Insert(SqliteDb& db, const InsertTrials& insert);
absl::Status Update(SqliteDb& db, const UpdateTrial& update);
absl::Status CancelQueued(SqliteDb& db, const CancelQueuedTrials& cancel);

// In index order, with the digest of the accepted result.
absl::Status ForEachSeed(SqliteDb& db, SweepKey sweep, const std::function<void(const TrialSeed&)>& fn);
absl::StatusOr<TrialCounts> Count(SqliteDb& db, SweepKey sweep);
absl::StatusOr<TrialRow> Get(SqliteDb& db, TrialKey trial);
// Without scores: results_table adds them.
absl::StatusOr<std::vector<TrialRow>> List(SqliteDb& db, SweepKey sweep, const TrialFilter& filter);
// At most `limit` from index `first` on; without scores.
absl::StatusOr<TrialColumns> Columns(SqliteDb& db, SweepKey sweep, int64_t first, int64_t limit);
absl::StatusOr<std::vector<int64_t>> Find(SqliteDb& db, SweepKey sweep, const std::set<TrialState>& states);
// Every trial by index, with what the row itself knows.
absl::Status ForEachForReport(SqliteDb& db, SweepKey sweep, const std::function<void(SweepSnapshot::Trial)>& fn);
absl::StatusOr<std::string> CellLevelsJson(SqliteDb& db, SweepKey sweep, int64_t cell);

}  // namespace loupe::coordinator::trials_table
