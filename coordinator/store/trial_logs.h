// The attempts' logs for all threads: who appends waits for nothing, who reads sees what was appended.
//
// Law: logs are there to be read by people, and cost nobody else anything. Append puts lines into a bounded queue and
// returns; a thread of its own writes them. What does not fit is dropped, the oldest first, and the numbers of the
// lines that are left say how many are missing. A database of logs that cannot be opened or written costs the logs
// alone. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/store/log_database.h"

namespace loupe::coordinator::store {

class TrialLogs {
 public:
  struct Options {
    LogDatabase::Options database;
    // That wait to be written.
    int64_t queue_bytes = 8 << 20;
    // How long lines may wait. Longer: fewer and larger transactions.
    absl::Duration interval = absl::Milliseconds(200);
  };

  // Never fails: a damaged database is put aside as "….damaged" and begun anew; where none can be opened, the
  // coordinator's log says so, and every Read.
  explicit TrialLogs(Options options);
  // Writes what waits.
  ~TrialLogs();
  TrialLogs(const TrialLogs&) = delete;
  TrialLogs& operator=(const TrialLogs&) = delete;

  // As LogDatabase's, later.
  void Append(const LoggedAttempt& attempt, const std::string& lease, std::vector<LogLine> lines);
  void Forget(const std::string& sweep_uid);
  // At once: for a start.
  void KeepOnly(const std::set<std::string>& sweep_uids);

  // As LogDatabase's. UNAVAILABLE where there is no database.
  absl::StatusOr<LogPage> Read(const LoggedAttempt& attempt, int64_t after, int64_t limit, int64_t tail);

  // Calls `wake` once: when the attempt has a line behind `after`, or `most` is over, or EndWaits is called; maybe
  // before it returns. `wake` is quick, throws nothing and calls nothing here.
  void Wait(const LoggedAttempt& attempt, int64_t after, absl::Duration most, std::function<void()> wake);
  // Wakes all who wait, and from then on whoever would: for shutdown.
  void EndWaits();

 private:
  using SteadyClock = std::chrono::steady_clock;
  struct Entry {
    LoggedAttempt attempt;
    std::string lease;
    // None: the sweep is to be forgotten.
    std::vector<LogLine> lines;
    int64_t bytes = 0;
  };
  struct Waiter {
    LoggedAttempt attempt;
    int64_t after = 0;
    SteadyClock::time_point until;
    std::function<void()> wake;
  };

  void Loop();
  // With disk_mutex_ held.
  void Open();
  void PutAside();
  void WriteQueue();
  void Report(const absl::Status& status);
  template <typename Woken>
  void Wake(Woken woken);
  SteadyClock::time_point NextWake() const;

  const Options options_;

  // Held while the database is used; taken before the other one.
  std::mutex disk_mutex_;
  std::unique_ptr<LogDatabase> database_;
  absl::Status why_none_;
  bool failing_ = false;

  // Held for moments only: the engine's thread takes it.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Entry> queue_;
  int64_t queued_bytes_ = 0;
  std::list<Waiter> waiters_;
  bool waits_ended_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::coordinator::store
