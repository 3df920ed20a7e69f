#include "coordinator/store/tables/metric_points_table.h"

#include <cmath>
#include <limits>

#include "common/status_macros.h"

namespace loupe::coordinator::store::metric_points_table {
namespace {

constexpr char kInsertNameSql[] = "INSERT OR IGNORE INTO metric_names (name) VALUES (?)";
constexpr char kInsertSql[] =
    "INSERT OR IGNORE INTO metric_points (sweep_key, trial_index, epoch, metric_id, step, value) "
    "VALUES (?, ?, ?, (SELECT metric_id FROM metric_names WHERE name = ?), ?, ?)";
constexpr char kListSql[] =
    "SELECT n.name, p.step, p.value FROM metric_points AS p JOIN metric_names AS n USING (metric_id) "
    "WHERE p.sweep_key = ? AND p.trial_index = ? AND p.epoch = ? AND (? = '' OR n.name = ?) "
    "AND (n.name, p.step) > (?, ?) ORDER BY n.name, p.step LIMIT ?";
constexpr char kAcceptedSql[] =
    "SELECT n.name, p.trial_index, p.step, p.value FROM results AS r "
    "JOIN metric_points AS p USING (sweep_key, trial_index, epoch) JOIN metric_names AS n USING (metric_id) "
    "WHERE r.sweep_key = ? ORDER BY n.name, p.trial_index, p.step";
constexpr char kInsertRungSql[] =
    "INSERT INTO rungs (sweep_key, trial_index, rung, value, stops) VALUES (?, ?, ?, ?, ?)";
constexpr char kRungsSql[] =
    "SELECT sweep_key, trial_index, rung, value, stops FROM rungs ORDER BY sweep_key, trial_index, rung";

std::optional<double> NullIfNan(double value) { return std::isnan(value) ? std::nullopt : std::optional(value); }

}  // namespace

absl::Status Append(SqliteDb& db, const scheduler::AppendPoints& append) {
  std::string_view known;
  for (const scheduler::MetricPoint& point : append.points) {
    if (known != point.metric || known.empty()) {
      LOUPE_RETURN_IF_ERROR(db.Run(kInsertNameSql, std::string_view(point.metric)));
      known = point.metric;
    }
    LOUPE_RETURN_IF_ERROR(db.Run(kInsertSql, append.trial.sweep, append.trial.index, append.epoch,
                                 std::string_view(point.metric), point.step, NullIfNan(point.value)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<scheduler::MetricPoint>> List(SqliteDb& db, scheduler::TrialKey trial, int64_t epoch,
                                                         const std::string& metric,
                                                         const std::optional<PointPosition>& after, int64_t limit) {
  std::vector<scheduler::MetricPoint> points;
  // Metric names are never empty, so ("", lowest) comes before every point.
  const PointPosition from = after.value_or(PointPosition{"", std::numeric_limits<int64_t>::min()});
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kListSql,
      [&](const SqliteRow& row) {
        points.push_back({row.Text(0), row.Int(1), row.Real(2)});
      },
      trial.sweep, trial.index, epoch, std::string_view(metric), std::string_view(metric),
      std::string_view(from.metric), from.step, limit));
  return points;
}

absl::Status ForEachAccepted(SqliteDb& db, scheduler::SweepKey sweep,
                             const std::function<void(const std::string&, int64_t, int64_t, double)>& fn) {
  return db.ForEach(
      kAcceptedSql, [&](const SqliteRow& row) { fn(row.Text(0), row.Int(1), row.Int(2), row.Real(3)); }, sweep);
}

absl::Status InsertRung(SqliteDb& db, const scheduler::NoteRung& rung) {
  return db.Run(kInsertRungSql, rung.sweep, rung.note.trial, rung.note.rung, NullIfNan(rung.note.value),
                rung.note.stops ? 1 : 0);
}

absl::Status ForEachRung(SqliteDb& db, const std::function<void(const scheduler::NoteRung&)>& fn) {
  return db.ForEach(kRungsSql, [&](const SqliteRow& row) {
    fn({row.Int(0), {.trial = row.Int(1), .rung = row.Int(2), .value = row.Real(3), .stops = row.Int(4) != 0}});
  });
}

}  // namespace loupe::coordinator::store::metric_points_table
