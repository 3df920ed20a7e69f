#include "coordinator/store/analyst_views.h"

#include <algorithm>
#include <map>
#include <string>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {
namespace {

// Enumerations by their names in the contract (proto/loupe/v1); times as seconds since 1970; names and not keys.
// In the SQL that SQLite and DuckDB share, and without functions of one of them: DuckDB reads a view by its text, and
// where it cannot, every column is text to it.
#define LOUPE_TIME(column) column " / 1000000.0"
#define LOUPE_FAILURE_CLASS(column) \
  "CASE " column " WHEN 1 THEN 'LOST_WORKER' WHEN 2 THEN 'RETRYABLE' WHEN 3 THEN 'USER_ERROR' END"
#define LOUPE_TRIAL_STATE(column)                                                             \
  "CASE " column                                                                              \
  " WHEN 1 THEN 'QUEUED' WHEN 2 THEN 'RUNNING' WHEN 3 THEN 'SUCCEEDED' WHEN 4 THEN 'FAILED' " \
  "WHEN 5 THEN 'CANCELLED' ELSE 'QUARANTINED' END"

constexpr char kSweeps[] =
    "CREATE VIEW view_sweeps AS SELECT s.sweep_id AS sweep, s.display_name AS title,\n"
    "  CASE WHEN j.kind = 1 THEN 'CREATING' WHEN j.kind = 5 THEN 'DELETING' ELSE CASE s.state WHEN 1 THEN 'ACTIVE' WHEN 2 THEN 'PAUSED'\n"
    "    WHEN 3 THEN 'STOPPING' WHEN 4 THEN 'COMPLETED' WHEN 5 THEN 'STOPPED' ELSE 'CANCELLED' END END AS state,\n"
    "  s.state_reason, s.cell_count AS cells, s.replicates, s.seed, s.priority,\n"
    "  " LOUPE_TIME("s.create_time_us") " AS created, " LOUPE_TIME("s.update_time_us") " AS updated,\n"
    "  " LOUPE_TIME("s.end_time_us") " AS ended\n"
    "FROM sweeps AS s LEFT JOIN jobs AS j USING (sweep_key)";

constexpr char kTrials[] =
    "CREATE VIEW view_trials AS SELECT s.sweep_id AS sweep, t.trial_index AS trial, t.cell_index AS cell, t.replicate,\n"
    "  " LOUPE_TRIAL_STATE("t.state") " AS state,\n"
    "  t.epoch AS attempts, t.failed_attempts, t.worker_losses, a.worker, " LOUPE_TIME("a.start_time_us") " AS started,\n"
    "  " LOUPE_TIME("a.end_time_us") " AS ended, r.train_seconds, r.total_seconds, r.stopped_at_step,\n"
    "  " LOUPE_FAILURE_CLASS("t.failure_class") " AS failure_class, t.failure_message AS failure\n"
    "FROM trials AS t JOIN sweeps AS s USING (sweep_key) LEFT JOIN results AS r USING (sweep_key, trial_index)\n"
    "  LEFT JOIN attempts AS a ON a.sweep_key = t.sweep_key AND a.trial_index = t.trial_index AND a.epoch = coalesce(r.epoch, t.epoch)";

constexpr char kLevels[] =
    "CREATE VIEW view_levels AS SELECT s.sweep_id AS sweep, c.cell_index AS cell, l.key AS factor, (c.levels ->> ('$.\"' || l.key || '\"')) AS level\n"
    "FROM cells AS c JOIN sweeps AS s USING (sweep_key), json_each(c.levels) AS l";

constexpr char kScores[] =
    "CREATE VIEW view_scores AS SELECT s.sweep_id AS sweep, t.trial_index AS trial, t.cell_index AS cell, t.replicate,\n"
    "  v.name AS score, v.value\n"
    "FROM scores AS v JOIN trials AS t USING (sweep_key, trial_index) JOIN sweeps AS s USING (sweep_key)";

constexpr char kMetrics[] =
    "CREATE VIEW view_metrics AS SELECT s.sweep_id AS sweep, t.trial_index AS trial, n.name AS metric, p.step, p.value\n"
    "FROM trials AS t JOIN sweeps AS s USING (sweep_key) LEFT JOIN results AS r USING (sweep_key, trial_index)\n"
    "  JOIN metric_points AS p ON p.sweep_key = t.sweep_key AND p.trial_index = t.trial_index AND p.epoch = coalesce(r.epoch, t.epoch)\n"
    "  JOIN metric_names AS n USING (metric_id)";

constexpr char kAttempts[] =
    "CREATE VIEW view_attempts AS SELECT s.sweep_id AS sweep, a.trial_index AS trial, a.epoch AS attempt, a.worker,\n"
    "  " LOUPE_TIME("a.start_time_us") " AS started, " LOUPE_TIME("a.end_time_us") " AS ended,\n"
    "  CASE a.outcome WHEN 0 THEN 'RUNNING' WHEN 1 THEN 'SUCCEEDED' WHEN 2 THEN 'FAILED' WHEN 3 THEN 'LOST' ELSE 'STOPPED' END AS outcome,\n"
    "  " LOUPE_FAILURE_CLASS("a.failure_class") " AS failure_class, a.failure_message AS failure\n"
    "FROM attempts AS a JOIN sweeps AS s USING (sweep_key)";

// Where the file lies, from the data folder: store/artifact_folder.h.
constexpr char kArtifacts[] =
    "CREATE VIEW view_artifacts AS SELECT s.sweep_id AS sweep, f.trial_index AS trial, f.epoch AS attempt,\n"
    "  r.epoch IS NOT NULL AS accepted, f.name AS artifact, f.media_type, f.size_bytes, f.sha256,\n"
    "  'artifacts/' || substr(f.sha256, 1, 2) || '/' || f.sha256 AS file\n"
    "FROM artifacts AS f JOIN sweeps AS s USING (sweep_key)\n"
    "  LEFT JOIN results AS r ON r.sweep_key = f.sweep_key AND r.trial_index = f.trial_index AND r.epoch = f.epoch";

constexpr char kWorkers[] =
    "CREATE VIEW view_workers AS SELECT worker_id AS worker, hostname, device, version, threads, memory_bytes, slots, draining,\n"
    "  " LOUPE_TIME("first_seen_us") " AS first_seen, " LOUPE_TIME("last_seen_us") " AS last_seen,\n"
    "  succeeded AS trials_succeeded, failed AS trials_failed\n"
    "FROM workers";

#undef LOUPE_TIME
#undef LOUPE_FAILURE_CLASS
#undef LOUPE_TRIAL_STATE

// Of these names: views that somebody else has made are not touched.
absl::StatusOr<std::map<std::string, std::string>> StoredViews(SqliteDb& db) {
  std::map<std::string, std::string> views;
  LOUPE_RETURN_IF_ERROR(db.ForEach("SELECT name, sql FROM sqlite_schema WHERE type = 'view' ORDER BY name",
                                   [&](const SqliteRow& row) { views.emplace(row.Text(0), row.Text(1)); }));
  std::erase_if(views, [](const auto& stored) {
    const std::vector<AnalystView>& ours = AnalystViews();
    return std::none_of(ours.begin(), ours.end(), [&](const AnalystView& view) { return view.name == stored.first; });
  });
  return views;
}

}  // namespace

const std::vector<AnalystView>& AnalystViews() {
  static const std::vector<AnalystView> views = {
      {"view_sweeps", kSweeps},       {"view_trials", kTrials},   {"view_levels", kLevels},
      {"view_scores", kScores},       {"view_metrics", kMetrics}, {"view_attempts", kAttempts},
      {"view_artifacts", kArtifacts}, {"view_workers", kWorkers},
  };
  return views;
}

absl::Status DropAnalystViews(SqliteDb& db) {
  LOUPE_ASSIGN_OR_RETURN(const auto stored, StoredViews(db));
  for (const auto& [name, sql] : stored) LOUPE_RETURN_IF_ERROR(db.Execute(fmt::format("DROP VIEW {}", name).c_str()));
  return absl::OkStatus();
}

absl::Status RenewAnalystViews(SqliteDb& db) {
  std::map<std::string, std::string> wanted;
  for (const AnalystView& view : AnalystViews()) wanted.emplace(view.name, view.sql);
  LOUPE_ASSIGN_OR_RETURN(const auto stored, StoredViews(db));
  if (stored == wanted) return absl::OkStatus();
  return db.WithTransaction("BEGIN IMMEDIATE", [&]() -> absl::Status {
    LOUPE_RETURN_IF_ERROR(DropAnalystViews(db));
    for (const auto& [name, sql] : wanted) LOUPE_RETURN_IF_ERROR(db.Execute(sql.c_str()));
    return absl::OkStatus();
  });
}

}  // namespace loupe::coordinator::store
