#include "coordinator/store/results_table.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "common/status_macros.h"

namespace loupe::coordinator::results_table {
namespace {

constexpr char kInsertResultSql[] =
    "INSERT INTO results (sweep_key, trial_index, epoch, digest, train_seconds, total_seconds, provenance, accept_time_us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
constexpr char kInsertScoreSql[] = "INSERT INTO scores (sweep_key, trial_index, name, value) VALUES (?, ?, ?, ?)";
constexpr char kScoresSql[] =
    "SELECT trial_index, name, value FROM scores WHERE sweep_key = ? AND trial_index BETWEEN ? AND ? "
    "ORDER BY trial_index, name";
constexpr char kResultsSql[] =
    "SELECT r.trial_index, t.cell_index, t.replicate, t.state, r.train_seconds, r.total_seconds FROM results AS r "
    "JOIN trials AS t USING (sweep_key, trial_index) WHERE r.sweep_key = ? ORDER BY r.trial_index";

}  // namespace

absl::Status Insert(SqliteDb& db, const AcceptResult& accept) {
  const std::string provenance =
      nlohmann::json(accept.result.provenance).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  LOUPE_RETURN_IF_ERROR(db.Run(kInsertResultSql, accept.trial.sweep, accept.trial.index, accept.epoch,
                               static_cast<int64_t>(accept.digest), accept.result.train_seconds,
                               accept.result.total_seconds, std::string_view(provenance), accept.accept_time));
  for (const auto& [name, value] : accept.result.scores) {
    LOUPE_RETURN_IF_ERROR(
        db.Run(kInsertScoreSql, accept.trial.sweep, accept.trial.index, std::string_view(name), value));
  }
  return absl::OkStatus();
}

absl::Status ForEachScore(SqliteDb& db, SweepKey sweep, int64_t first, int64_t last,
                          const std::function<void(int64_t, std::string, double)>& fn) {
  return db.ForEach(
      kScoresSql, [&](const SqliteRow& row) { fn(row.Int(0), row.Text(1), row.Real(2)); }, sweep, first, last);
}

absl::Status ForEachResult(SqliteDb& db, SweepKey sweep, const std::function<void(SweepSnapshot::TrialResult)>& fn) {
  return db.ForEach(
      kResultsSql,
      [&](const SqliteRow& row) {
        SweepSnapshot::TrialResult result;
        result.index = row.Int(0);
        result.cell_index = row.Int(1);
        result.replicate = row.Int32(2);
        result.state = static_cast<TrialState>(row.Int32(3));
        result.train_seconds = row.Real(4);
        result.total_seconds = row.Real(5);
        fn(std::move(result));
      },
      sweep);
}

}  // namespace loupe::coordinator::results_table
