// Tables `metric_names`, `metric_points` and `rungs`.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::store::metric_points_table {

// A point that is there already stays as it is: a repeat adds nothing.
absl::Status Append(SqliteDb& db, const scheduler::AppendPoints& append);

absl::StatusOr<std::vector<scheduler::MetricPoint>> List(SqliteDb& db, scheduler::TrialKey trial, int64_t epoch,
                                                         const std::string& metric,
                                                         const std::optional<PointPosition>& after, int64_t limit);

// Points of accepted attempts in (metric, trial, step) order.
absl::Status ForEachAccepted(
    SqliteDb& db, scheduler::SweepKey sweep,
    const std::function<void(const std::string& metric, int64_t index, int64_t step, double value)>& fn);

absl::Status InsertRung(SqliteDb& db, const scheduler::NoteRung& rung);
absl::Status ForEachRung(SqliteDb& db, const std::function<void(const scheduler::NoteRung&)>& fn);

}  // namespace loupe::coordinator::store::metric_points_table
