#include "coordinator/store/tables/sweeps_table.h"

#include <limits>
#include <utility>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::store::sweeps_table {
namespace {

constexpr char kInsertSql[] =
    "INSERT INTO sweeps (sweep_key, sweep_id, uid, display_name, spec, cell_count, replicates, seed, priority, "
    "max_trial_attempts, max_worker_losses, backoff_us, max_failed_trials, state, state_reason, create_time_us, "
    "update_time_us, end_time_us, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
constexpr char kUpdateStateSql[] =
    "UPDATE sweeps SET state = ?, state_reason = ?, priority = ?, update_time_us = ?, end_time_us = ?, revision = ? "
    "WHERE sweep_key = ?";

#define LOUPE_SWEEP_COLUMNS(spec)                                                                                        \
  "sweep_key, sweep_id, uid, display_name, " spec                                                                        \
  ", cell_count, replicates, seed, priority, max_trial_attempts, "                                                       \
  "max_worker_losses, backoff_us, max_failed_trials, state, state_reason, create_time_us, update_time_us, end_time_us, " \
  "revision, kind, next_trial, trial_states, cell_filter, client FROM sweeps LEFT JOIN jobs USING (sweep_key) "
constexpr char kGetSql[] = "SELECT " LOUPE_SWEEP_COLUMNS("spec") "WHERE sweep_id = ?";
constexpr char kAllSql[] = "SELECT " LOUPE_SWEEP_COLUMNS("spec") "ORDER BY sweep_key";
// A specification may have a megabyte: lists leave it where it is.
constexpr char kListSql[] = "SELECT " LOUPE_SWEEP_COLUMNS("NULL") "WHERE sweep_key < ? ORDER BY sweep_key DESC LIMIT ?";
#undef LOUPE_SWEEP_COLUMNS

scheduler::SweepRecord Read(const SqliteRow& row) {
  scheduler::SweepRecord sweep;
  sweep.key = row.Int(0);
  sweep.id = row.Text(1);
  sweep.uid = row.Text(2);
  sweep.display_name = row.Text(3);
  sweep.spec = row.Text(4);
  sweep.cells = row.Int(5);
  sweep.replicates = row.Int32(6);
  sweep.seed = static_cast<uint64_t>(row.Int(7));
  sweep.priority = row.Int32(8);
  sweep.limits.max_trial_attempts = row.Int32(9);
  sweep.limits.max_worker_losses = row.Int32(10);
  sweep.limits.backoff = absl::Microseconds(row.Int(11));
  sweep.limits.max_failed_trials = row.Int32(12);
  sweep.state = static_cast<scheduler::SweepState>(row.Int32(13));
  sweep.state_reason = row.Text(14);
  sweep.create_time = row.Time(15);
  sweep.update_time = row.Time(16);
  sweep.end_time = row.OptionalTime(17);
  sweep.revision = row.Int(18);
  if (row.IsNull(19)) return sweep;
  scheduler::SweepJob& job = sweep.job.emplace();
  job.kind = static_cast<scheduler::JobKind>(row.Int32(19));
  job.cursor = row.Int(20);
  for (int state = 1; state <= static_cast<int>(TrialState::kQuarantined); ++state) {
    if ((row.Int(21) >> state & 1) != 0) job.states.insert(static_cast<TrialState>(state));
  }
  job.cell_filter = row.Text(22);
  job.client = row.Text(23);
  return sweep;
}

}  // namespace

absl::Status Insert(SqliteDb& db, const scheduler::SweepRecord& sweep) {
  return db.Run(kInsertSql, sweep.key, std::string_view(sweep.id), std::string_view(sweep.uid),
                std::string_view(sweep.display_name), Blob{sweep.spec}, sweep.cells, sweep.replicates,
                static_cast<int64_t>(sweep.seed), sweep.priority, sweep.limits.max_trial_attempts,
                sweep.limits.max_worker_losses, absl::ToInt64Microseconds(sweep.limits.backoff),
                sweep.limits.max_failed_trials, static_cast<int32_t>(sweep.state), std::string_view(sweep.state_reason),
                sweep.create_time, sweep.update_time, sweep.end_time, sweep.revision);
}

absl::Status UpdateState(SqliteDb& db, const scheduler::SweepRecord& sweep) {
  return db.Run(kUpdateStateSql, static_cast<int32_t>(sweep.state), std::string_view(sweep.state_reason),
                sweep.priority, sweep.update_time, sweep.end_time, sweep.revision, sweep.key);
}

absl::StatusOr<scheduler::SweepRecord> Get(SqliteDb& db, const std::string& id) {
  std::optional<scheduler::SweepRecord> found;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kGetSql, [&](const SqliteRow& row) { found = Read(row); }, std::string_view(id)));
  if (!found) return absl::NotFoundError(fmt::format("there is no sweep '{}'", id));
  return *std::move(found);
}

absl::Status ForEachByKey(SqliteDb& db, const std::function<void(scheduler::SweepRecord)>& fn) {
  return db.ForEach(kAllSql, [&](const SqliteRow& row) { fn(Read(row)); });
}

absl::StatusOr<std::vector<scheduler::SweepRecord>> ListNewestFirst(SqliteDb& db, scheduler::SweepKey before,
                                                                    int64_t limit) {
  std::vector<scheduler::SweepRecord> sweeps;
  const scheduler::SweepKey bound = before == 0 ? std::numeric_limits<scheduler::SweepKey>::max() : before;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kListSql, [&](const SqliteRow& row) { sweeps.push_back(Read(row)); }, bound, limit));
  return sweeps;
}

}  // namespace loupe::coordinator::store::sweeps_table
