#include "coordinator/store/tables/trials_table.h"

#include <limits>
#include <utility>

#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::coordinator::store::trials_table {
namespace {

constexpr char kInsertCellSql[] = "INSERT INTO cells (sweep_key, cell_index, levels) VALUES (?, ?, ?)";
constexpr char kInsertTrialSql[] =
    "INSERT INTO trials (sweep_key, trial_index, cell_index, replicate, state, epoch, failed_attempts, worker_losses) "
    "VALUES (?, ?, ?, ?, 1, 0, 0, 0)";
constexpr char kUpdateSql[] =
    "UPDATE trials SET state = ?, epoch = ?, failed_attempts = ?, worker_losses = ? WHERE sweep_key = ? AND trial_index = ?";
constexpr char kUpdateFailureSql[] =
    "UPDATE trials SET failure_class = ?, failure_message = ? WHERE sweep_key = ? AND trial_index = ?";
constexpr char kCancelQueuedSql[] =
    "UPDATE trials SET state = 5 WHERE sweep_key = ? AND trial_index >= ? AND trial_index < ? AND state = 1";

constexpr char kSeedsSql[] =
    "SELECT t.trial_index, t.state, t.epoch, t.failed_attempts, t.worker_losses, coalesce(r.digest, 0) FROM trials AS t "
    "LEFT JOIN results AS r USING (sweep_key, trial_index) WHERE t.sweep_key = ? ORDER BY t.trial_index";
constexpr char kCountSql[] = "SELECT state, count(*) FROM trials WHERE sweep_key = ? GROUP BY state ORDER BY state";

#define LOUPE_TRIAL_SELECT                                                                                  \
  "SELECT t.trial_index, t.cell_index, t.replicate, t.state, t.epoch, t.failed_attempts, t.worker_losses, " \
  "t.failure_class, t.failure_message, c.levels, a.worker, a.start_time_us, a.end_time_us, "                \
  "coalesce(r.stopped_at_step, 0) FROM trials AS t JOIN cells AS c USING (sweep_key, cell_index) "          \
  "LEFT JOIN results AS r USING (sweep_key, trial_index) "                                                  \
  "LEFT JOIN attempts AS a ON a.sweep_key = t.sweep_key AND a.trial_index = t.trial_index AND a.epoch = t.epoch "
constexpr char kGetSql[] = LOUPE_TRIAL_SELECT "WHERE t.sweep_key = ? AND t.trial_index = ?";
// The states travel as a bit set (bit n = state n), so that one prepared statement serves all filters.
constexpr char kListSql[] = LOUPE_TRIAL_SELECT
    "WHERE t.sweep_key = ? AND t.trial_index >= ? AND (? >> t.state) & 1 ORDER BY t.trial_index LIMIT ?";
#undef LOUPE_TRIAL_SELECT
// Trials are numbered from 0 without gaps. Neither the cells' levels nor texts of attempts are touched: that is what a
// list of 100,000 costs.
constexpr char kColumnsSql[] =
    "SELECT t.state, a.start_time_us, a.end_time_us, coalesce(r.stopped_at_step, 0) FROM trials AS t "
    "LEFT JOIN results AS r USING (sweep_key, trial_index) "
    "LEFT JOIN attempts AS a ON a.sweep_key = t.sweep_key AND a.trial_index = t.trial_index AND a.epoch = t.epoch "
    "WHERE t.sweep_key = ? AND t.trial_index >= ? ORDER BY t.trial_index LIMIT ?";
constexpr char kFindSql[] =
    "SELECT trial_index FROM trials WHERE sweep_key = ? AND (? >> state) & 1 ORDER BY trial_index";
constexpr char kReportSql[] =
    "SELECT trial_index, cell_index, replicate, state, epoch, failure_message FROM trials WHERE sweep_key = ? "
    "ORDER BY trial_index";
constexpr char kCellSql[] = "SELECT levels FROM cells WHERE sweep_key = ? AND cell_index = ?";

int64_t Mask(const std::set<TrialState>& states) {
  if (states.empty()) return 0x7e;
  int64_t mask = 0;
  for (const TrialState state : states) mask |= int64_t{1} << static_cast<int>(state);
  return mask;
}

TrialRow Read(const SqliteRow& row) {
  TrialRow trial;
  trial.index = row.Int(0);
  trial.cell_index = row.Int(1);
  trial.replicate = row.Int32(2);
  trial.state = static_cast<TrialState>(row.Int32(3));
  trial.epoch = row.Int(4);
  trial.failed_attempts = row.Int32(5);
  trial.worker_losses = row.Int32(6);
  if (!row.IsNull(7))
    trial.last_failure = scheduler::Failure{static_cast<scheduler::FailureClass>(row.Int32(7)),
                                            ToUtf8(row.Text(8))};  // older versions cut within a character
  trial.cell_levels_json = row.Text(9);
  trial.worker = row.Text(10);
  trial.start_time = row.OptionalTime(11);
  trial.end_time = row.OptionalTime(12);
  trial.stopped_at_step = row.Int(13);
  return trial;
}

}  // namespace

absl::Status Insert(SqliteDb& db, const scheduler::InsertTrials& insert) {
  for (int64_t index = insert.from; index < insert.to; ++index) {
    if (index < insert.cells) {
      const std::string levels = insert.cell_levels_json(index);
      LOUPE_RETURN_IF_ERROR(db.Run(kInsertCellSql, insert.sweep, index, std::string_view(levels)));
    }
    LOUPE_RETURN_IF_ERROR(db.Run(kInsertTrialSql, insert.sweep, index, index % insert.cells, index / insert.cells));
  }
  return absl::OkStatus();
}

absl::Status Update(SqliteDb& db, const scheduler::UpdateTrial& update) {
  LOUPE_RETURN_IF_ERROR(db.Run(kUpdateSql, static_cast<int32_t>(update.state), update.epoch, update.failed_attempts,
                               update.worker_losses, update.trial.sweep, update.trial.index));
  if (db.Changes() != 1) {
    return absl::InternalError(fmt::format("trial {} of sweep {} has no row", update.trial.index, update.trial.sweep));
  }
  if (update.last_failure) {
    return db.Run(kUpdateFailureSql, static_cast<int32_t>(update.last_failure->failure_class),
                  std::string_view(update.last_failure->message), update.trial.sweep, update.trial.index);
  }
  if (update.clear_failure) {
    return db.Run(kUpdateFailureSql, std::nullopt, std::nullopt, update.trial.sweep, update.trial.index);
  }
  return absl::OkStatus();
}

absl::Status CancelQueued(SqliteDb& db, const scheduler::CancelQueuedTrials& cancel) {
  return db.Run(kCancelQueuedSql, cancel.sweep, cancel.from, cancel.to);
}

absl::Status ForEachSeed(SqliteDb& db, scheduler::SweepKey sweep, const std::function<void(const TrialSeed&)>& fn) {
  return db.ForEach(
      kSeedsSql,
      [&](const SqliteRow& row) {
        fn({.index = row.Int(0),
            .state = static_cast<TrialState>(row.Int32(1)),
            .epoch = row.Int(2),
            .failed_attempts = row.Int32(3),
            .worker_losses = row.Int32(4),
            .result_digest = static_cast<uint64_t>(row.Int(5))});
      },
      sweep);
}

absl::StatusOr<scheduler::TrialCounts> Count(SqliteDb& db, scheduler::SweepKey sweep) {
  scheduler::TrialCounts counts;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kCountSql, [&](const SqliteRow& row) { counts.of(static_cast<TrialState>(row.Int32(0))) = row.Int(1); }, sweep));
  return counts;
}

absl::StatusOr<TrialRow> Get(SqliteDb& db, scheduler::TrialKey trial) {
  std::optional<TrialRow> found;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kGetSql, [&](const SqliteRow& row) { found = Read(row); }, trial.sweep, trial.index));
  if (!found) return absl::NotFoundError(fmt::format("the sweep has no trial {}", trial.index));
  return *std::move(found);
}

absl::StatusOr<std::vector<TrialRow>> List(SqliteDb& db, scheduler::SweepKey sweep, const TrialFilter& filter) {
  std::vector<TrialRow> trials;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kListSql, [&](const SqliteRow& row) { trials.push_back(Read(row)); }, sweep, filter.from_index,
      Mask(filter.states), filter.limit));
  return trials;
}

absl::StatusOr<TrialColumns> Columns(SqliteDb& db, scheduler::SweepKey sweep, int64_t first, int64_t limit) {
  TrialColumns columns;
  columns.first = first;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kColumnsSql,
      [&](const SqliteRow& row) {
        columns.states.push_back(static_cast<TrialState>(row.Int32(0)));
        const bool ended = !row.IsNull(1) && !row.IsNull(2);
        columns.seconds.push_back(ended ? static_cast<float>(static_cast<double>(row.Int(2) - row.Int(1)) * 1e-6)
                                        : std::numeric_limits<float>::quiet_NaN());
        columns.stopped_at_steps.push_back(static_cast<uint32_t>(row.Int(3)));
      },
      sweep, first, limit));
  return columns;
}

absl::StatusOr<std::vector<int64_t>> Find(SqliteDb& db, scheduler::SweepKey sweep, const std::set<TrialState>& states) {
  std::vector<int64_t> indexes;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kFindSql, [&](const SqliteRow& row) { indexes.push_back(row.Int(0)); }, sweep, Mask(states)));
  return indexes;
}

absl::Status ForEachForReport(SqliteDb& db, scheduler::SweepKey sweep,
                              const std::function<void(SweepSnapshot::Trial)>& fn) {
  return db.ForEach(
      kReportSql,
      [&](const SqliteRow& row) {
        SweepSnapshot::Trial trial;
        trial.index = row.Int(0);
        trial.cell_index = row.Int(1);
        trial.replicate = row.Int32(2);
        trial.state = static_cast<TrialState>(row.Int32(3));
        trial.attempts = row.Int(4);
        trial.failure_message = ToUtf8(row.Text(5));
        fn(std::move(trial));
      },
      sweep);
}

absl::StatusOr<std::string> CellLevelsJson(SqliteDb& db, scheduler::SweepKey sweep, int64_t cell) {
  std::optional<std::string> levels;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kCellSql, [&](const SqliteRow& row) { levels = row.Text(0); }, sweep, cell));
  if (!levels) return absl::NotFoundError(fmt::format("the sweep has no cell {}", cell));
  return *std::move(levels);
}

}  // namespace loupe::coordinator::store::trials_table
