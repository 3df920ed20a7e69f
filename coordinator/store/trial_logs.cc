#include "coordinator/store/trial_logs.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <utility>

#include "common/guarded.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {
namespace {

// Of an entry besides its lines' texts.
constexpr int64_t kEntryBytes = 256;
constexpr int64_t kQueuedLineBytes = 64;

}  // namespace

TrialLogs::TrialLogs(Options options) : options_(std::move(options)) {
  {
    const std::lock_guard disk(disk_mutex_);
    Open();
  }
  thread_ = std::thread([this] { Loop(); });
}

TrialLogs::~TrialLogs() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void TrialLogs::Open() {
  auto opened = LogDatabase::Open(options_.database);
  if (absl::IsDataLoss(opened.status())) {
    PutAside();
    opened = LogDatabase::Open(options_.database);
  }
  why_none_ = opened.status();
  if (opened.ok()) {
    database_ = *std::move(opened);
  } else {
    LogError("no logs of trials are kept: {}", std::string(why_none_.message()));
  }
}

void TrialLogs::PutAside() {
  const std::string& path = options_.database.path;
  LogError("'{0}' is damaged: it is put aside as '{0}.damaged', and the logs of trials begin anew", path);
  database_.reset();
  std::rename(path.c_str(), (path + ".damaged").c_str());
  ::unlink((path + "-wal").c_str());
  ::unlink((path + "-shm").c_str());
}

void TrialLogs::Append(const LoggedAttempt& attempt, const std::string& lease, std::vector<LogLine> lines) {
  if (lines.empty()) return;
  int64_t bytes = kEntryBytes;
  for (const LogLine& line : lines) bytes += kQueuedLineBytes + static_cast<int64_t>(line.text.size());
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({attempt, lease, std::move(lines), bytes});
    queued_bytes_ += bytes;
    while (queued_bytes_ > options_.queue_bytes) {
      const auto oldest =
          std::find_if(queue_.begin(), queue_.end(), [](const Entry& entry) { return !entry.lines.empty(); });
      if (oldest == queue_.end()) break;
      queued_bytes_ -= oldest->bytes;
      queue_.erase(oldest);
    }
  }
  changed_.notify_all();
}

void TrialLogs::Forget(const std::string& sweep_uid) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({.attempt = {.sweep_uid = sweep_uid}, .lease = "", .lines = {}});
  }
  changed_.notify_all();
}

void TrialLogs::KeepOnly(const std::set<std::string>& sweep_uids) {
  const std::lock_guard disk(disk_mutex_);
  if (database_ == nullptr) return;
  Report(database_->Change([&] { return database_->KeepOnly(sweep_uids); }));
}

absl::StatusOr<LogPage> TrialLogs::Read(const LoggedAttempt& attempt, int64_t after, int64_t limit, int64_t tail) {
  const std::lock_guard disk(disk_mutex_);
  WriteQueue();
  if (database_ == nullptr) {
    return absl::UnavailableError(fmt::format("no logs of trials are kept: {}", std::string(why_none_.message())));
  }
  return database_->Read(attempt, after, limit, tail);
}

void TrialLogs::Wait(const LoggedAttempt& attempt, int64_t after, absl::Duration most, std::function<void()> wake) {
  {
    const std::lock_guard lock(mutex_);
    if (!waits_ended_) {
      waiters_.push_back(
          {attempt, after, SteadyClock::now() + absl::ToChronoNanoseconds(most), std::exchange(wake, nullptr)});
    }
  }
  if (wake != nullptr) return wake();
  changed_.notify_all();
  // What came since the caller looked has woken nobody.
  const std::lock_guard disk(disk_mutex_);
  WriteQueue();
  if (database_ == nullptr) return;
  const absl::StatusOr<int64_t> last = database_->Last(attempt);
  if (last.ok() && *last > after)
    Wake([&](const Waiter& waiter) { return waiter.attempt == attempt && waiter.after < *last; });
}

void TrialLogs::EndWaits() {
  {
    const std::lock_guard lock(mutex_);
    waits_ended_ = true;
  }
  Wake([](const Waiter&) { return true; });
}

template <typename Woken>
void TrialLogs::Wake(Woken woken) {
  std::list<Waiter> awake;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = waiters_.begin(); it != waiters_.end();) {
      const auto next = std::next(it);
      if (woken(*it)) awake.splice(awake.end(), waiters_, it);
      it = next;
    }
  }
  for (const Waiter& waiter : awake) waiter.wake();
}

void TrialLogs::WriteQueue() {
  std::list<Entry> entries;
  {
    const std::lock_guard lock(mutex_);
    entries.swap(queue_);
    queued_bytes_ = 0;
  }
  if (entries.empty() || database_ == nullptr) return;
  const absl::Status written = database_->Change([&]() -> absl::Status {
    for (const Entry& entry : entries) {
      LOUPE_RETURN_IF_ERROR(entry.lines.empty() ? database_->Forget(entry.attempt.sweep_uid)
                                                : database_->Append(entry.attempt, entry.lease, entry.lines));
    }
    return absl::OkStatus();
  });
  Report(written);
  if (absl::IsDataLoss(written)) {
    PutAside();
    Open();
  }
  std::map<LoggedAttempt, int64_t> last;
  for (const Entry& entry : entries) {
    if (!entry.lines.empty()) last[entry.attempt] = entry.lines.back().sequence;
  }
  Wake([&](const Waiter& waiter) {
    const auto found = last.find(waiter.attempt);
    return found != last.end() && found->second > waiter.after;
  });
}

// A full disk is said once, and that it is over.
void TrialLogs::Report(const absl::Status& status) {
  if (!status.ok() && !failing_) {
    LogError("logs of trials are lost, as they cannot be written: {}", std::string(status.message()));
  } else if (status.ok() && failing_) {
    LogInfo("logs of trials are kept again");
  }
  failing_ = !status.ok();
}

TrialLogs::SteadyClock::time_point TrialLogs::NextWake() const {
  SteadyClock::time_point next = SteadyClock::time_point::max();
  for (const Waiter& waiter : waiters_) next = std::min(next, waiter.until);
  return next;
}

void TrialLogs::Loop() {
  const auto interval = absl::ToChronoNanoseconds(options_.interval);
  std::unique_lock lock(mutex_);
  while (true) {
    if (!stopping_ && queue_.empty()) {
      // Until something comes, or somebody has waited long enough.
      if (waiters_.empty()) {
        changed_.wait(lock);
      } else {
        changed_.wait_until(lock, NextWake());
      }
    }
    if (!stopping_ && !queue_.empty()) changed_.wait_for(lock, interval, [this] { return stopping_; });
    const bool last = stopping_;
    lock.unlock();
    GuardedTurn("lines of trials' logs are lost: writing them", [this] {
      {
        const std::lock_guard disk(disk_mutex_);
        WriteQueue();
      }
      Wake([now = SteadyClock::now()](const Waiter& waiter) { return waiter.until <= now; });
    });
    if (last) return;
    lock.lock();
  }
}

}  // namespace loupe::coordinator::store
