#include "coordinator/notify/delivery_lane.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"

namespace loupe::coordinator {

DeliveryLane::DeliveryLane(const Clock& clock, AuditLog& log, LaneOptions options)
    : clock_(clock), log_(log), options_(std::move(options)), thread_([this] { Loop(); }) {}

DeliveryLane::~DeliveryLane() {
  Stop();
  thread_.join();
}

void DeliveryLane::Add(const Webhook& webhook, const Notification& notification) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (deliveries_.size() >= options_.most_waiting) {
    Log(deliveries_.front(), "given up: too many wait");
    deliveries_.pop_front();
  }
  deliveries_.push_back({webhook, notification, 0, clock_.MonotonicNow()});
  changed_.notify_one();
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
    const absl::Duration now = clock_.MonotonicNow();
    absl::Duration wait = absl::InfiniteDuration();
    auto due = deliveries_.end();
    for (auto it = deliveries_.begin(); it != deliveries_.end() && due == deliveries_.end(); ++it) {
      if (it->due <= now) due = it;
      wait = std::min(wait, it->due - now);
    }
    if (due != deliveries_.end()) {
      Delivery delivery = std::move(*due);
      deliveries_.erase(due);
      Try(std::move(delivery), lock);
    } else if (deliveries_.empty()) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, std::max(absl::ToChronoMilliseconds(wait), std::chrono::milliseconds(1)));
    }
  }
  for (const Delivery& delivery : deliveries_) Log(delivery, "given up: the coordinator ends");
}

void DeliveryLane::Try(Delivery delivery, std::unique_lock<std::mutex>& lock) {
  busy_ = true;
  lock.unlock();
  const TryResult result = options_.deliver(delivery.webhook, delivery.notification);
  lock.lock();
  busy_ = false;
  ++delivery.tries;
  if (result.delivered) return Log(delivery, result.words);
  if (!result.may_pass || delivery.tries > options_.waits.size())
    return Log(delivery, fmt::format("{}; given up", result.words));
  const absl::Duration wait = options_.waits[delivery.tries - 1];
  Log(delivery, fmt::format("{}; again in {}", result.words, absl::FormatDuration(wait)));
  delivery.due = clock_.MonotonicNow() + wait;
  deliveries_.push_back(std::move(delivery));
}

void DeliveryLane::Log(const Delivery& delivery, const std::string& outcome) {
  log_.Append(fmt::format("{} {} {} {} try {}: {}", absl::FormatTime(clock_.WallNow(), absl::UTCTimeZone()),
                          delivery.webhook.name, delivery.notification.event, delivery.notification.id, delivery.tries,
                          outcome));
}

}  // namespace loupe::coordinator
