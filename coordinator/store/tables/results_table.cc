#include "coordinator/store/tables/results_table.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/status_macros.h"

namespace loupe::coordinator::store::results_table {
namespace {

constexpr char kInsertResultSql[] =
    "INSERT INTO results (sweep_key, trial_index, epoch, digest, train_seconds, total_seconds, provenance, accept_time_us, "
    "stopped_at_step) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
constexpr char kInsertScoreSql[] = "INSERT INTO scores (sweep_key, trial_index, name, value) VALUES (?, ?, ?, ?)";
constexpr char kInsertInputSql[] = "INSERT INTO sweep_inputs (sweep_key, name, sha256) VALUES (?, ?, ?)";
constexpr char kInputsSql[] = "SELECT sweep_key, name, sha256 FROM sweep_inputs ORDER BY sweep_key, name";
constexpr char kScoresSql[] =
    "SELECT trial_index, name, value FROM scores WHERE sweep_key = ? AND trial_index BETWEEN ? AND ? "
    "ORDER BY trial_index, name";
constexpr char kSecondsSql[] =
    "SELECT trial_index, train_seconds, total_seconds, coalesce(json_extract(provenance, '$.device'), '') FROM results "
    "WHERE sweep_key = ? AND stopped_at_step = 0 ORDER BY trial_index DESC LIMIT ?";
constexpr char kResultsSql[] =
    "SELECT trial_index, total_seconds, CAST(json_extract(provenance, '$.trainable_parameters') AS REAL), stopped_at_step "
    "FROM results WHERE sweep_key = ? ORDER BY trial_index";
constexpr char kDigestsSql[] =
    "SELECT results.trial_index, entry.key, entry.value FROM results, json_each(results.provenance) AS entry "
    "WHERE results.sweep_key = ? AND entry.type = 'text' AND entry.key LIKE '%\\_sha256' ESCAPE '\\' "
    "ORDER BY results.trial_index, entry.key";
constexpr char kNumericsSql[] =
    "SELECT coalesce(json_extract(provenance, '$.numerics'), '1') AS numerics, count(*) FROM results "
    "WHERE sweep_key = ? GROUP BY numerics ORDER BY numerics";
// A worker says the same for every trial of a data set, as a rule: each sentence once.
constexpr char kNotesSql[] =
    "SELECT DISTINCT entry.value FROM results, json_each(results.provenance) AS entry "
    "WHERE results.sweep_key = ? AND entry.type = 'text' AND entry.key LIKE 'note.%' ORDER BY entry.value LIMIT 20";
constexpr char kProvenanceSql[] = "SELECT provenance FROM results WHERE sweep_key = ? ORDER BY trial_index LIMIT 1";
constexpr char kTrialProvenanceSql[] = "SELECT provenance FROM results WHERE sweep_key = ? AND trial_index = ?";
constexpr char kScoreSql[] = "SELECT count(*), avg(value) FROM scores WHERE sweep_key = ? AND name = ?";
constexpr char kSmallestSql[] =
    "SELECT trial_index, value FROM scores WHERE sweep_key = ? AND name = ? ORDER BY value, trial_index LIMIT 1";
constexpr char kLargestSql[] =
    "SELECT trial_index, value FROM scores WHERE sweep_key = ? AND name = ? ORDER BY value DESC, trial_index LIMIT 1";
constexpr char kSinceSql[] = "SELECT count(*) FROM results WHERE sweep_key = ? AND accept_time_us > ?";

void ReadProvenance(const SqliteRow& row, std::map<std::string, std::string>& provenance) {
  const nlohmann::json parsed = nlohmann::json::parse(row.Text(0), nullptr, /*allow_exceptions=*/false);
  for (const auto& [key, value] : parsed.items()) {
    if (value.is_string()) provenance.emplace(key, value.get<std::string>());
  }
}

}  // namespace

absl::Status Insert(SqliteDb& db, const scheduler::AcceptResult& accept) {
  const std::string provenance =
      nlohmann::json(accept.result.provenance).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  LOUPE_RETURN_IF_ERROR(db.Run(kInsertResultSql, accept.trial.sweep, accept.trial.index, accept.epoch,
                               static_cast<int64_t>(accept.digest), accept.result.train_seconds,
                               accept.result.total_seconds, std::string_view(provenance), accept.accept_time,
                               accept.result.stopped_at_step));
  for (const auto& [name, value] : accept.result.scores) {
    LOUPE_RETURN_IF_ERROR(
        db.Run(kInsertScoreSql, accept.trial.sweep, accept.trial.index, std::string_view(name), value));
  }
  return absl::OkStatus();
}

absl::Status InsertInput(SqliteDb& db, const scheduler::RecordInput& input) {
  return db.Run(kInsertInputSql, input.sweep, std::string_view(input.name), std::string_view(input.sha256));
}

absl::Status ForEachInput(SqliteDb& db, const std::function<void(scheduler::RecordInput)>& fn) {
  return db.ForEach(kInputsSql, [&](const SqliteRow& row) { fn({row.Int(0), row.Text(1), row.Text(2)}); });
}

absl::Status ForEachScore(SqliteDb& db, scheduler::SweepKey sweep, int64_t first, int64_t last,
                          const std::function<void(int64_t, std::string, double)>& fn) {
  return db.ForEach(
      kScoresSql, [&](const SqliteRow& row) { fn(row.Int(0), row.Text(1), row.Real(2)); }, sweep, first, last);
}

absl::Status FillScores(SqliteDb& db, scheduler::SweepKey sweep, TrialColumns& columns) {
  const size_t rows = columns.states.size();
  if (rows == 0) return absl::OkStatus();
  // A trial's scores come by name, and most trials have the same ones: the next row's column is the one behind this
  // row's.
  auto next = columns.scores.end();
  std::string name;
  return db.ForEach(
      kScoresSql,
      [&](const SqliteRow& row) {
        name = row.Text(1);
        if (next == columns.scores.end() || next->first != name) {
          next = columns.scores.try_emplace(name, rows, std::numeric_limits<double>::quiet_NaN()).first;
        }
        next->second[static_cast<size_t>(row.Int(0) - columns.first)] = row.Real(2);
        if (++next == columns.scores.end()) next = columns.scores.begin();
      },
      sweep, columns.first, columns.first + static_cast<int64_t>(rows) - 1);
}

absl::StatusOr<std::vector<ResultSeconds>> ListSeconds(SqliteDb& db, scheduler::SweepKey sweep, int64_t limit) {
  std::vector<ResultSeconds> results;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kSecondsSql,
      [&](const SqliteRow& row) {
        results.push_back({row.Int(0), row.Real(1), row.Real(2), row.Text(3)});
      },
      sweep, limit));
  return results;
}

absl::Status ForEachResult(SqliteDb& db, scheduler::SweepKey sweep,
                           const std::function<void(int64_t, double, double, int64_t)>& fn) {
  return db.ForEach(
      kResultsSql, [&](const SqliteRow& row) { fn(row.Int(0), row.Real(1), row.Real(2), row.Int(3)); }, sweep);
}

absl::Status ForEachDigest(SqliteDb& db, scheduler::SweepKey sweep,
                           const std::function<void(int64_t, std::string, std::string)>& fn) {
  return db.ForEach(
      kDigestsSql, [&](const SqliteRow& row) { fn(row.Int(0), row.Text(1), row.Text(2)); }, sweep);
}

absl::StatusOr<std::map<std::string, int64_t>> Numerics(SqliteDb& db, scheduler::SweepKey sweep) {
  std::map<std::string, int64_t> results;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kNumericsSql, [&](const SqliteRow& row) { results.emplace(row.Text(0), row.Int(1)); }, sweep));
  return results;
}

absl::StatusOr<std::vector<std::string>> Notes(SqliteDb& db, scheduler::SweepKey sweep) {
  std::vector<std::string> notes;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kNotesSql, [&](const SqliteRow& row) { notes.push_back(row.Text(0)); }, sweep));
  return notes;
}

absl::StatusOr<std::map<std::string, std::string>> FirstProvenance(SqliteDb& db, scheduler::SweepKey sweep) {
  std::map<std::string, std::string> provenance;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kProvenanceSql, [&](const SqliteRow& row) { ReadProvenance(row, provenance); }, sweep));
  return provenance;
}

absl::StatusOr<std::map<std::string, std::string>> Provenance(SqliteDb& db, scheduler::TrialKey trial) {
  std::map<std::string, std::string> provenance;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kTrialProvenanceSql, [&](const SqliteRow& row) { ReadProvenance(row, provenance); }, trial.sweep, trial.index));
  return provenance;
}

absl::StatusOr<ScoreSummary> Summarise(SqliteDb& db, scheduler::SweepKey sweep, const std::string& score,
                                       bool smaller_is_better) {
  ScoreSummary summary;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kScoreSql,
      [&](const SqliteRow& row) {
        summary.results = row.Int(0);
        summary.mean = row.Real(1);
      },
      sweep, std::string_view(score)));
  summary.best = std::numeric_limits<double>::quiet_NaN();
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      smaller_is_better ? kSmallestSql : kLargestSql,
      [&](const SqliteRow& row) {
        summary.best_trial = row.Int(0);
        summary.best = row.Real(1);
      },
      sweep, std::string_view(score)));
  return summary;
}

absl::StatusOr<int64_t> CountSince(SqliteDb& db, scheduler::SweepKey sweep, absl::Time since) {
  int64_t count = 0;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kSinceSql, [&](const SqliteRow& row) { count = row.Int(0); }, sweep, since));
  return count;
}

}  // namespace loupe::coordinator::store::results_table
