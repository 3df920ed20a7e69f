// What is still to be delivered, and which events have been taken note of, in a database of its own:
// DATA/deliveries.db.
//
// Law: it holds nothing up and ends nothing. A damaged file is put aside as "….damaged" and begun anew; while it cannot
// be opened or written, the log says so once, and deliveries live in memory alone. A commit waits for no disk: what a
// power cut takes from its end is found again by Told, in the coordinator's own database. Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/notify/webhook.h"
#include "coordinator/scheduler/model.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::notify {

// In every data folder; no part of a backup.
inline constexpr char kDeliveriesFile[] = "/deliveries.db";

struct Delivery {
  // Rises with the order of events; 0: it is not stored.
  int64_t key = 0;
  // Whom: the webhook's name.
  std::string webhook;
  Notification notification;
  int64_t tries = 0;
  // When the next try is due.
  absl::Time due;
};

// Up to where events have been taken note of.
struct Told {
  struct Sweep {
    std::string uid;
    scheduler::SweepState state = scheduler::SweepState::kActive;
  };
  // Those of attempts that ended until then. Nothing: nobody is told anything; of what is recorded: as before.
  std::optional<absl::Time> attempts_until;
  // By key; those that are not here were active.
  std::map<scheduler::SweepKey, Sweep> sweeps;
};

class DeliveryDatabase {
 public:
  // Never fails.
  explicit DeliveryDatabase(std::string path);

  // In the order of events.
  std::vector<Delivery> Waiting();
  Told ReadTold();
  // In place of what was told before. With no `attempts_until`, what waits goes too.
  void Begin(const Told& told);
  // At once: these events count as told (a sweep without uid is gone), and these deliveries wait; they get their keys.
  void Record(const Told& told, std::vector<Delivery>& deliveries);
  // Its next try, and how many it had.
  void Put(const Delivery& delivery);
  void Remove(const Delivery& delivery);

 private:
  absl::Status Open();
  void PutAside();
  absl::Status Insert(Delivery& delivery);
  absl::Status Note(const Told& told);
  // `body` as one transaction.
  template <typename Body>
  void Change(Body body);
  void Report(const absl::Status& status);

  const std::string path_;
  std::mutex mutex_;
  std::unique_ptr<store::SqliteDb> db_;
  bool failing_ = false;
};

}  // namespace loupe::coordinator::notify
