// Tables `cells` and `trials`.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/journal.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::store::trials_table {

absl::Status Insert(SqliteDb& db, const scheduler::InsertTrials& insert);
absl::Status Update(SqliteDb& db, const scheduler::UpdateTrial& update);
absl::Status CancelQueued(SqliteDb& db, const scheduler::CancelQueuedTrials& cancel);

// In index order, with the digest of the accepted result.
absl::Status ForEachSeed(SqliteDb& db, scheduler::SweepKey sweep, const std::function<void(const TrialSeed&)>& fn);
absl::StatusOr<scheduler::TrialCounts> Count(SqliteDb& db, scheduler::SweepKey sweep);
absl::StatusOr<TrialRow> Get(SqliteDb& db, scheduler::TrialKey trial);
// Without scores: results_table adds them.
absl::StatusOr<std::vector<TrialRow>> List(SqliteDb& db, scheduler::SweepKey sweep, const TrialFilter& filter);
// At most `limit` from index `first` on; without scores.
absl::StatusOr<TrialColumns> Columns(SqliteDb& db, scheduler::SweepKey sweep, int64_t first, int64_t limit);
absl::StatusOr<std::vector<int64_t>> Find(SqliteDb& db, scheduler::SweepKey sweep, const std::set<TrialState>& states);
// Every trial by index, with what the row itself knows.
absl::Status ForEachForReport(SqliteDb& db, scheduler::SweepKey sweep,
                              const std::function<void(SweepSnapshot::Trial)>& fn);
absl::StatusOr<std::string> CellLevelsJson(SqliteDb& db, scheduler::SweepKey sweep, int64_t cell);

}  // namespace loupe::coordinator::store::trials_table
