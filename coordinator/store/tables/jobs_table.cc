#include "coordinator/store/tables/jobs_table.h"

#include <string_view>

#include "common/status_macros.h"

namespace loupe::coordinator::store::jobs_table {
namespace {

constexpr char kPutSql[] =
    "INSERT OR REPLACE INTO jobs (sweep_key, kind, next_trial, trial_states, cell_filter, client) VALUES (?, ?, ?, ?, ?, ?)";
constexpr char kRemoveSql[] = "DELETE FROM jobs WHERE sweep_key = ?";

// Each removes the sweep's first rows of one table, those that refer to others first. A trial has few rows of all
// tables but one, so that a bound in trials is one in rows; of metric points it may have any number.
#define LOUPE_PURGE_SQL(table, column)                                                                   \
  "DELETE FROM " table " WHERE sweep_key = ?1 AND " column " <= coalesce((SELECT " column " FROM " table \
  " WHERE sweep_key = ?1 ORDER BY " column " LIMIT 1 OFFSET ?2), 9223372036854775807)"
constexpr char kPurgePointsSql[] =
    "DELETE FROM metric_points WHERE (sweep_key, trial_index, epoch, metric_id, step) IN (SELECT sweep_key, trial_index, epoch, "
    "metric_id, step FROM metric_points WHERE sweep_key = ?1 ORDER BY trial_index, epoch, metric_id, step LIMIT ?2 + 1)";
constexpr const char* kPurgeSqls[] = {kPurgePointsSql,
                                      LOUPE_PURGE_SQL("scores", "trial_index"),
                                      LOUPE_PURGE_SQL("artifacts", "trial_index"),
                                      LOUPE_PURGE_SQL("results", "trial_index"),
                                      LOUPE_PURGE_SQL("attempts", "trial_index"),
                                      LOUPE_PURGE_SQL("trials", "trial_index"),
                                      LOUPE_PURGE_SQL("cells", "cell_index")};
#undef LOUPE_PURGE_SQL
constexpr char kDeleteSweepSql[] = "DELETE FROM sweeps WHERE sweep_key = ?";

}  // namespace

absl::Status Put(SqliteDb& db, const scheduler::PutJob& put) {
  int64_t states = 0;
  for (const TrialState state : put.job.states) states |= int64_t{1} << static_cast<int>(state);
  return db.Run(kPutSql, put.sweep, static_cast<int32_t>(put.job.kind), put.job.cursor, states,
                std::string_view(put.job.cell_filter), std::string_view(put.job.client));
}

absl::Status Remove(SqliteDb& db, scheduler::SweepKey sweep) { return db.Run(kRemoveSql, sweep); }

absl::StatusOr<bool> Purge(SqliteDb& db, scheduler::SweepKey sweep, int64_t most_rows) {
  int64_t left = most_rows;
  for (const char* sql : kPurgeSqls) {
    LOUPE_RETURN_IF_ERROR(db.Run(sql, sweep, left - 1));
    left -= db.Changes();
    if (left <= 0) return false;
  }
  LOUPE_RETURN_IF_ERROR(db.Run(kDeleteSweepSql, sweep));
  return true;
}

}  // namespace loupe::coordinator::store::jobs_table
