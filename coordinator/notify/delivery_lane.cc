#include "coordinator/notify/delivery_lane.h"

#include <algorithm>
#include <utility>

#include "common/guarded.h"
#include "fmt/format.h"

namespace loupe::coordinator::notify {
namespace {

constexpr absl::Duration kAfterFailure = absl::Minutes(1);

}  // namespace

DeliveryLane::DeliveryLane(const Clock& clock, access::AuditLog& log, DeliveryDatabase& database, Webhook webhook,
                           LaneOptions options)
    : clock_(clock),
      log_(log),
      database_(database),
      options_(std::move(options)),
      webhook_(std::move(webhook)),
      thread_([this] { Loop(); }) {}

DeliveryLane::~DeliveryLane() {
  Stop();
  thread_.join();
}

void DeliveryLane::Add(Delivery delivery) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (deliveries_.size() >= options_.most_waiting) GiveUpOldest("given up: too many wait");
  if (deliveries_.empty()) {
    // Of one that an earlier process tried: whatever has become of the civil clock since then.
    const absl::Duration longest =
        options_.waits.empty() ? absl::ZeroDuration() : *std::max_element(options_.waits.begin(), options_.waits.end());
    due_ = clock_.MonotonicNow() + std::clamp(delivery.due - clock_.WallNow(), absl::ZeroDuration(), longest);
  }
  deliveries_.push_back(std::move(delivery));
  changed_.notify_one();
}

void DeliveryLane::Use(const Webhook& webhook) {
  const std::lock_guard<std::mutex> lock(mutex_);
  webhook_ = webhook;
}

void DeliveryLane::GiveUp(std::string_view why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (GiveUpOldest(why)) {
  }
}

bool DeliveryLane::IsIdle() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return deliveries_.empty() && !busy_;
}

void DeliveryLane::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

void DeliveryLane::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    if (deliveries_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const absl::Duration wait = due_ - clock_.MonotonicNow();
    if (wait > absl::ZeroDuration()) {
      changed_.wait_for(lock, std::max(absl::ToChronoMilliseconds(wait), std::chrono::milliseconds(1)));
    } else if (clock_.WallNow() - deliveries_.front().notification.time > options_.most_age) {
      GiveUpOldest(fmt::format("given up: older than {}", absl::FormatDuration(options_.most_age)));
    } else if (!GuardedTurn("delivering", [&] { Try(lock); })) {
      if (!lock.owns_lock()) lock.lock();
      busy_ = false;
      due_ = clock_.MonotonicNow() + kAfterFailure;
    }
  }
}

void DeliveryLane::Try(std::unique_lock<std::mutex>& lock) {
  Delivery delivery = deliveries_.front();
  const Webhook webhook = webhook_;
  busy_ = true;
  lock.unlock();
  const TryResult result = options_.deliver(webhook, delivery.notification);
  lock.lock();
  busy_ = false;
  ++delivery.tries;
  const bool again =
      !result.delivered && result.may_pass && delivery.tries <= static_cast<int64_t>(options_.waits.size());
  due_ = clock_.MonotonicNow();
  if (!again) {
    deliveries_.pop_front();
    database_.Remove(delivery);
    return LogDelivery(log_, clock_, delivery, result.delivered ? result.words : result.words + "; given up");
  }
  const absl::Duration wait = options_.waits[static_cast<size_t>(delivery.tries - 1)];
  due_ += wait;
  delivery.due = clock_.WallNow() + wait;
  database_.Put(delivery);
  LogDelivery(log_, clock_, delivery, fmt::format("{}; again in {}", result.words, absl::FormatDuration(wait)));
  deliveries_.front() = std::move(delivery);
}

bool DeliveryLane::GiveUpOldest(std::string_view why) {
  // What becomes of the one that is under way is for the receiver to say.
  const auto oldest = deliveries_.begin() + (busy_ ? 1 : 0);
  if (deliveries_.empty() || oldest == deliveries_.end()) return false;
  database_.Remove(*oldest);
  LogDelivery(log_, clock_, *oldest, why);
  deliveries_.erase(oldest);
  return true;
}

void LogDelivery(access::AuditLog& log, const Clock& clock, const Delivery& delivery, std::string_view outcome) {
  log.Append(fmt::format("{} {} {} {} try {}: {}", absl::FormatTime(clock.WallNow(), absl::UTCTimeZone()),
                         delivery.webhook, delivery.notification.event, delivery.notification.id, delivery.tries,
                         outcome));
}

}  // namespace loupe::coordinator::notify
