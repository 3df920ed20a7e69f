#include "coordinator/notify/delivery_database.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"
#include "coordinator/store/file_mark.h"

namespace loupe::coordinator::notify {
namespace {

constexpr int kDeliveriesApplicationId = 0x4c6f4e6f;
constexpr int kDeliveriesVersion = 1;

constexpr char kDeliveryPragmasSql[] =
    "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-1024; PRAGMA journal_size_limit=1048576;";
constexpr char kDeliverySchemaSql[] = R"sql(
CREATE TABLE deliveries (
  delivery_key INTEGER PRIMARY KEY AUTOINCREMENT,
  webhook TEXT NOT NULL,
  id TEXT NOT NULL,
  event TEXT NOT NULL,
  time_us INTEGER NOT NULL,
  sweep TEXT NOT NULL,
  trial TEXT NOT NULL,
  worker TEXT NOT NULL,
  message TEXT NOT NULL,
  tries INTEGER NOT NULL,
  due_us INTEGER NOT NULL,
  UNIQUE (webhook, id)
) STRICT;

CREATE TABLE told_until (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  attempts_until_us INTEGER NOT NULL
) STRICT;

CREATE TABLE told_sweeps (
  sweep_key INTEGER PRIMARY KEY,
  uid TEXT NOT NULL,
  state INTEGER NOT NULL
) STRICT;
)sql";

constexpr char kWaitingSql[] =
    "SELECT delivery_key, webhook, id, event, time_us, sweep, trial, worker, message, tries, due_us FROM deliveries "
    "ORDER BY delivery_key";
// An event that is found a second time waits once.
constexpr char kInsertDeliverySql[] =
    "INSERT OR IGNORE INTO deliveries (webhook, id, event, time_us, sweep, trial, worker, message, tries, due_us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
constexpr char kPutDeliverySql[] = "UPDATE deliveries SET tries = ?, due_us = ? WHERE delivery_key = ?";
constexpr char kRemoveDeliverySql[] = "DELETE FROM deliveries WHERE delivery_key = ?";
constexpr char kUntilSql[] = "SELECT attempts_until_us FROM told_until";
constexpr char kPutUntilSql[] = "INSERT OR REPLACE INTO told_until (only_row, attempts_until_us) VALUES (1, ?)";
constexpr char kToldSweepsSql[] = "SELECT sweep_key, uid, state FROM told_sweeps ORDER BY sweep_key";
constexpr char kPutSweepSql[] = "INSERT OR REPLACE INTO told_sweeps (sweep_key, uid, state) VALUES (?, ?, ?)";
constexpr char kRemoveSweepSql[] = "DELETE FROM told_sweeps WHERE sweep_key = ?";

}  // namespace

DeliveryDatabase::DeliveryDatabase(std::string path) : path_(std::move(path)) {
  absl::Status opened = Open();
  if (absl::IsDataLoss(opened)) {
    PutAside();
    opened = Open();
  }
  if (!opened.ok()) db_.reset();
  Report(opened);
}

absl::Status DeliveryDatabase::Open() {
  LOUPE_ASSIGN_OR_RETURN(db_, store::SqliteDb::Open(path_, store::SqliteDb::Mode::kReadWriteCreate, ""));
  LOUPE_RETURN_IF_ERROR(db_->Execute(kDeliveryPragmasSql));
  return store::MakeOrCheckSchema(
      *db_, {kDeliveriesApplicationId, kDeliveriesVersion, kDeliverySchemaSql, "a database of deliveries"});
}

void DeliveryDatabase::PutAside() {
  LogError("'{0}' is damaged: it is put aside as '{0}.damaged'; deliveries that waited are lost", path_);
  db_.reset();
  std::rename(path_.c_str(), (path_ + ".damaged").c_str());
  ::unlink((path_ + "-wal").c_str());
  ::unlink((path_ + "-shm").c_str());
}

// Trouble is said once, and that it is over.
void DeliveryDatabase::Report(const absl::Status& status) {
  if (!status.ok() && !failing_) {
    LogError("deliveries to webhooks would not outlive this process: {}", std::string(status.message()));
  } else if (status.ok() && failing_) {
    LogInfo("deliveries to webhooks are stored again");
  }
  failing_ = !status.ok();
}

template <typename Body>
void DeliveryDatabase::Change(Body body) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (db_ == nullptr) return;
  const absl::Status status = db_->WithTransaction("BEGIN IMMEDIATE", body);
  Report(status);
  if (!absl::IsDataLoss(status)) return;
  PutAside();
  if (!Open().ok()) db_.reset();
}

std::vector<Delivery> DeliveryDatabase::Waiting() {
  std::vector<Delivery> waiting;
  Change([&]() -> absl::Status {
    return db_->ForEach(kWaitingSql, [&](const store::SqliteRow& row) {
      waiting.push_back({.key = row.Int(0),
                         .webhook = row.Text(1),
                         .notification = {.id = row.Text(2),
                                          .event = row.Text(3),
                                          .time = row.Time(4),
                                          .sweep = row.Text(5),
                                          .trial = row.Text(6),
                                          .worker = row.Text(7),
                                          .message = row.Text(8)},
                         .tries = row.Int(9),
                         .due = row.Time(10)});
    });
  });
  return waiting;
}

Told DeliveryDatabase::ReadTold() {
  Told told;
  Change([&]() -> absl::Status {
    LOUPE_RETURN_IF_ERROR(
        db_->ForEach(kUntilSql, [&](const store::SqliteRow& row) { told.attempts_until = row.Time(0); }));
    return db_->ForEach(kToldSweepsSql, [&](const store::SqliteRow& row) {
      told.sweeps[row.Int(0)] = {row.Text(1), static_cast<scheduler::SweepState>(row.Int32(2))};
    });
  });
  return told;
}

absl::Status DeliveryDatabase::Note(const Told& told) {
  if (told.attempts_until) LOUPE_RETURN_IF_ERROR(db_->Run(kPutUntilSql, *told.attempts_until));
  for (const auto& [key, sweep] : told.sweeps) {
    LOUPE_RETURN_IF_ERROR(sweep.uid.empty() ? db_->Run(kRemoveSweepSql, key)
                                            : db_->Run(kPutSweepSql, key, std::string_view(sweep.uid),
                                                       static_cast<int32_t>(sweep.state)));
  }
  return absl::OkStatus();
}

absl::Status DeliveryDatabase::Insert(Delivery& delivery) {
  const Notification& what = delivery.notification;
  LOUPE_RETURN_IF_ERROR(db_->Run(kInsertDeliverySql, std::string_view(delivery.webhook), std::string_view(what.id),
                                 std::string_view(what.event), what.time, std::string_view(what.sweep),
                                 std::string_view(what.trial), std::string_view(what.worker),
                                 std::string_view(what.message), delivery.tries, delivery.due));
  if (db_->Changes() == 1) delivery.key = sqlite3_last_insert_rowid(db_->handle());
  return absl::OkStatus();
}

void DeliveryDatabase::Begin(const Told& told) {
  Change([&]() -> absl::Status {
    LOUPE_RETURN_IF_ERROR(db_->Execute("DELETE FROM told_until; DELETE FROM told_sweeps;"));
    if (!told.attempts_until) LOUPE_RETURN_IF_ERROR(db_->Execute("DELETE FROM deliveries;"));
    return Note(told);
  });
}

void DeliveryDatabase::Record(const Told& told, std::vector<Delivery>& deliveries) {
  Change([&]() -> absl::Status {
    for (Delivery& delivery : deliveries) LOUPE_RETURN_IF_ERROR(Insert(delivery));
    return Note(told);
  });
}

void DeliveryDatabase::Put(const Delivery& delivery) {
  if (delivery.key == 0) return;
  Change([&] { return db_->Run(kPutDeliverySql, delivery.tries, delivery.due, delivery.key); });
}

void DeliveryDatabase::Remove(const Delivery& delivery) {
  if (delivery.key == 0) return;
  Change([&] { return db_->Run(kRemoveDeliverySql, delivery.key); });
}

}  // namespace loupe::coordinator::notify
