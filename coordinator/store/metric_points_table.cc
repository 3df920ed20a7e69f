#include "coordinator/store/metric_points_table.h"

#include <cmath>
#include <limits>

#include "common/status_macros.h"

namespace loupe::coordinator::metric_points_table {
namespace {

constexpr char kInsertNameSql[] = "INSERT OR IGNORE INTO metric_names (name) VALUES (?)";
constexpr char kInsertSql[] =
    "INSERT OR IGNORE INTO metric_points (sweep_key, trial_index, epoch, metric_id, step, value) "
    "VALUES (?, ?, ?, (SELECT metric_id FROM metric_names WHERE name = ?), ?, ?)";
constexpr char kListSql[] =
    "SELECT n.name, p.step, p.value FROM metric_points AS p JOIN metric_names AS n USING (metric_id) "
    "WHERE p.sweep_key = ? AND p.trial_index = ? AND p.epoch = ? AND (? = '' OR n.name = ?) "
    "AND (n.name, p.step) > (?, ?) ORDER BY n.name, p.step LIMIT ?";

}  // namespace

absl::Status Append(SqliteDb& db, const AppendPoints& append) {
  std::string_view known;
  for (const MetricPoint& point : append.points) {
    if (known != point.metric || known.empty()) {
      LOUPE_RETURN_IF_ERROR(db.Run(kInsertNameSql, std::string_view(point.metric)));
      known = point.metric;
    }
    std::optional<double> value;
    if (!std::isnan(point.value)) value = point.value;
    LOUPE_RETURN_IF_ERROR(db.Run(kInsertSql, append.trial.sweep, append.trial.index, append.epoch,
                                 std::string_view(point.metric), point.step, value));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<MetricPoint>> List(SqliteDb& db, TrialKey trial, int64_t epoch, const std::string& metric,
                                              const std::optional<PointPosition>& after, int64_t limit) {
  std::vector<MetricPoint> points;
  // Metric names are never empty, so ("", lowest) comes before every point.
  const PointPosition from = after.value_or(PointPosition{"", std::numeric_limits<int64_t>::min()});
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kListSql, [&](const SqliteRow& row) { points.push_back({row.Text(0), row.Int(1), row.Real(2)}); }, trial.sweep,
      trial.index, epoch, std::string_view(metric), std::string_view(metric), std::string_view(from.metric), from.step,
      limit));
  return points;
}

}  // namespace loupe::coordinator::metric_points_table
