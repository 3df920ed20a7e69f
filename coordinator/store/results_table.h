// Tables `results` and `scores`: exactly one accepted result per trial, by the primary key.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store.h"

namespace loupe::coordinator::results_table {

// ALREADY_EXISTS when the trial has an accepted result.
absl::Status Insert(SqliteDb& db, const AcceptResult& accept);

// Scores of trials with index in [first, last], by (trial, name).
absl::Status ForEachScore(SqliteDb& db, SweepKey sweep, int64_t first, int64_t last,
                          const std::function<void(int64_t index, std::string name, double value)>& fn);
// Accepted results by trial index.
absl::Status ForEachResult(SqliteDb& db, SweepKey sweep,
                           const std::function<void(int64_t index, double total_seconds)>& fn);
// Of the sweep's first accepted result; empty when there is none.
absl::StatusOr<std::map<std::string, std::string>> FirstProvenance(SqliteDb& db, SweepKey sweep);

}  // namespace loupe::coordinator::results_table
