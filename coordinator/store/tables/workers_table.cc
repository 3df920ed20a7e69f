#include "coordinator/store/tables/workers_table.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace loupe::coordinator::store::workers_table {
namespace {

constexpr char kUpsertSql[] =
    "INSERT OR REPLACE INTO workers (worker_id, session, past_sessions, hostname, device, version, process_id, threads, "
    "memory_bytes, slots, draining, first_seen_us, succeeded, failed, last_seen_us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
constexpr char kCountSql[] = "UPDATE workers SET succeeded = ?, failed = ?, last_seen_us = ? WHERE worker_id = ?";
constexpr char kAllSql[] =
    "SELECT worker_id, session, past_sessions, hostname, device, version, process_id, threads, memory_bytes, slots, draining, "
    "first_seen_us, succeeded, failed, last_seen_us FROM workers ORDER BY worker_id";
constexpr char kDeleteSql[] = "DELETE FROM workers WHERE worker_id = ?";

}  // namespace

absl::Status Upsert(SqliteDb& db, const scheduler::WorkerRecord& worker) {
  const scheduler::WorkerDescription& description = worker.description;
  const std::string past =
      nlohmann::json(worker.past_sessions).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return db.Run(kUpsertSql, std::string_view(worker.id), std::string_view(worker.session), std::string_view(past),
                std::string_view(description.hostname), std::string_view(description.device),
                std::string_view(description.version), description.process_id, description.threads,
                description.memory_bytes, worker.slots, static_cast<int32_t>(worker.draining), worker.first_seen,
                worker.succeeded, worker.failed, worker.last_seen);
}

absl::Status Delete(SqliteDb& db, const std::string& worker) { return db.Run(kDeleteSql, std::string_view(worker)); }

absl::Status Count(SqliteDb& db, const scheduler::CountWorker& count) {
  return db.Run(kCountSql, count.succeeded, count.failed, count.last_seen, std::string_view(count.worker));
}

absl::Status ForEach(SqliteDb& db, const std::function<void(scheduler::WorkerRecord)>& fn) {
  return db.ForEach(kAllSql, [&](const SqliteRow& row) {
    scheduler::WorkerRecord worker;
    worker.id = row.Text(0);
    worker.session = row.Text(1);
    const nlohmann::json past = nlohmann::json::parse(row.Text(2), nullptr, /*allow_exceptions=*/false);
    if (past.is_array()) {
      for (const auto& session : past) {
        if (session.is_string()) worker.past_sessions.push_back(session.get<std::string>());
      }
    }
    worker.description = {.hostname = row.Text(3),
                          .device = row.Text(4),
                          .version = row.Text(5),
                          .process_id = row.Int(6),
                          .threads = row.Int32(7),
                          .memory_bytes = row.Int(8)};
    worker.slots = row.Int32(9);
    worker.draining = row.Int32(10) != 0;
    worker.first_seen = row.Time(11);
    worker.succeeded = row.Int(12);
    worker.failed = row.Int(13);
    worker.last_seen = row.Time(14);
    fn(std::move(worker));
  });
}

}  // namespace loupe::coordinator::store::workers_table
