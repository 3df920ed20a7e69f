#include "coordinator/store/tables/requests_table.h"

#include <utility>

#include "common/status_macros.h"

namespace loupe::coordinator::store::requests_table {
namespace {

constexpr char kInsertSql[] =
    "INSERT INTO requests (request_id, method, fingerprint, sweep_id, answer, time_us) VALUES (?, ?, ?, ?, ?, ?)";
// A repeat comes within seconds or minutes; a week bounds the table.
constexpr char kForgetSql[] = "DELETE FROM requests WHERE time_us < ?";
constexpr absl::Duration kKept = absl::Hours(24 * 7);
constexpr char kAllSql[] =
    "SELECT request_id, method, fingerprint, sweep_id, answer, time_us FROM requests ORDER BY time_us, request_id";

}  // namespace

absl::Status Insert(SqliteDb& db, const scheduler::RecordRequest& request) {
  LOUPE_RETURN_IF_ERROR(db.Run(kForgetSql, request.time - kKept));
  return db.Run(kInsertSql, std::string_view(request.request_id), std::string_view(request.method),
                std::string_view(request.fingerprint), std::string_view(request.sweep_id), request.answer,
                request.time);
}

absl::Status ForEach(SqliteDb& db, const std::function<void(scheduler::RecordRequest)>& fn) {
  return db.ForEach(kAllSql, [&](const SqliteRow& row) {
    scheduler::RecordRequest request;
    request.request_id = row.Text(0);
    request.method = row.Text(1);
    request.fingerprint = row.Text(2);
    request.sweep_id = row.Text(3);
    request.answer = row.Int(4);
    request.time = row.Time(5);
    fn(std::move(request));
  });
}

}  // namespace loupe::coordinator::store::requests_table
