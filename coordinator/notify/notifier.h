// Tells webhooks, and people by e-mail, what happens in sweeps: retries, a log of every delivery, and for each receiver
// a queue with a thread of its own: one that waits holds up no other.
//
// A notification is made from what is durable already, and delivered at least once. What a process had no time for, its
// successor does: deliveries that wait lie in DATA/deliveries.db, and events that are in the coordinator's database and
// not in there (it was killed between the two) are found at the start, with the same ids. One that is refused for good,
// was tried for an hour, or is a day old is given up; the log says so.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/access/audit_log.h"
#include "coordinator/notify/delivery_database.h"
#include "coordinator/notify/delivery_lane.h"
#include "coordinator/notify/webhook.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::notify {

struct NotifierOptions {
  // Of one try: of a POST, and of a command.
  absl::Duration timeout = absl::Seconds(10);
  absl::Duration command_timeout = absl::Seconds(30);
  // "/usr/sbin/sendmail -t -i": what takes e-mails on its standard input. Empty: there are none.
  std::string command;
  // Between tries; after the last one it is given up.
  std::vector<absl::Duration> waits = {absl::Seconds(5),  absl::Seconds(30), absl::Minutes(2),  absl::Minutes(10),
                                       absl::Minutes(10), absl::Minutes(10), absl::Minutes(10), absl::Minutes(10)};
  // Deliveries that wait for one receiver; beyond it the oldest is given up.
  size_t most_waiting = 1000;
  // Events that are older are given up.
  absl::Duration most_age = absl::Hours(24);
  // Of webhooks.log, and of the one before it.
  int64_t log_bytes = 4 << 20;
  // One notification of a lost worker in this time.
  absl::Duration worker_interval = absl::Minutes(1);
};

// Thread-safe.
class Notifier {
 public:
  // `folder` has webhooks.json and gets webhooks.log and deliveries.db; the rest outlives it. Errors of ReadWebhooks: a
  // coordinator that is told whom to notify, and cannot, says so at once. INVALID_ARGUMENT also for a command that is
  // no program, and for an entry with e-mail where there is no command.
  static absl::StatusOr<std::unique_ptr<Notifier>> Start(const std::string& folder, store::StoreReader& store,
                                                         const Clock& clock, const NotifierOptions& options = {});
  // Ends the delivery that is under way; what waits is left to the next one.
  ~Notifier();

  // `committed` is durable. On the engine's thread: quick.
  void Note(const scheduler::Effects& committed);

 private:
  // As it is noted; told in words on the thread below.
  struct Happening {
    // Empty: nothing to tell, but a sweep's state is another one, or (without uid) it is gone.
    std::string event;
    absl::Time time;
    scheduler::SweepKey sweep = 0;
    // Of news of a sweep.
    std::string sweep_id;
    std::string sweep_uid;
    scheduler::SweepState state = scheduler::SweepState::kActive;
    // Of its state: what makes its second end another event than its first.
    int64_t version = 0;
    // Of news of a trial.
    int64_t index = -1;
    int64_t epoch = 0;
    TrialState trial_state = TrialState::kQueued;
    // Empty: whoever ran the trial last.
    std::string worker;
    std::string reason;
  };
  struct SweepName {
    std::string id;
    std::string uid;
  };
  Notifier(std::string folder, store::StoreReader& store, const Clock& clock, NotifierOptions options)
      : folder_(std::move(folder)),
        store_(store),
        clock_(clock),
        options_(std::move(options)),
        database_(folder_ + kDeliveriesFile) {}

  static Happening OfSweep(const scheduler::SweepRecord& sweep);
  // At the start, before anything new can happen.
  absl::Status GoOn();
  absl::StatusOr<std::vector<Happening>> MissedSince(const Told& told);
  void TellFromNowOn();

  void Loop();
  absl::StatusOr<std::vector<Webhook>> Read() const;
  void ReadAgain();
  void Queue(const std::deque<Happening>& happenings);
  // False: nothing to tell (its sweep is gone, the same worker again).
  bool Describe(const Happening& happening, Notification& notification);
  SweepName NameOf(const Happening& happening);
  DeliveryLane& LaneOf(const Webhook& webhook);
  const Webhook* Find(const std::string& name) const;
  // On a lane's thread.
  TryResult Deliver(const Webhook& webhook, const Notification& notification) const;

  const std::string folder_;
  store::StoreReader& store_;
  const Clock& clock_;
  const NotifierOptions options_;
  DeliveryDatabase database_;
  std::vector<std::string> command_;
  std::unique_ptr<access::AuditLog> log_;
  // Of the engine's thread.
  std::map<scheduler::SweepKey, scheduler::SweepState> states_;
  // Of the thread below.
  std::vector<Webhook> webhooks_;
  std::string version_;
  // By the webhook's name.
  std::map<std::string, std::unique_ptr<DeliveryLane>> lanes_;
  std::map<scheduler::SweepKey, SweepName> names_;
  std::map<std::string, absl::Duration> workers_told_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Happening> happenings_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::coordinator::notify
