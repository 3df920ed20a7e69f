// What waits for one receiver, on a thread of its own: a receiver that does not answer holds up nobody else.
//
// Law: in the order of events. One that is to be tried again holds up those behind it, until it is accepted or given
// up.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/access/audit_log.h"
#include "coordinator/notify/delivery_database.h"
#include "coordinator/notify/webhook.h"

namespace loupe::coordinator::notify {

// What became of one try.
struct TryResult {
  bool delivered = false;
  // Worth another try: trouble of the network, of the server, or too many.
  bool may_pass = false;
  // "answered 503"
  std::string words;
};

struct LaneOptions {
  // Between tries; after the last one it is given up.
  std::vector<absl::Duration> waits;
  // Beyond it the oldest is given up.
  size_t most_waiting = 0;
  // What happened longer ago is given up.
  absl::Duration most_age = absl::InfiniteDuration();
  std::function<TryResult(const Webhook&, const Notification&)> deliver;
};

// A line of webhooks.log.
void LogDelivery(access::AuditLog& log, const Clock& clock, const Delivery& delivery, std::string_view outcome);

// Thread-safe. What it is made of outlives it.
class DeliveryLane {
 public:
  DeliveryLane(const Clock& clock, access::AuditLog& log, DeliveryDatabase& database, Webhook webhook,
               LaneOptions options);
  // Stop, and the end of the try that is under way.
  ~DeliveryLane();

  void Add(Delivery delivery);
  // From the next try on.
  void Use(const Webhook& webhook);
  // All that waits; what is under way has its last try.
  void GiveUp(std::string_view why);
  // Nothing waits, and nothing is under way.
  bool IsIdle() const;
  // Begins no further try. What is stored waits for the next process.
  void Stop();

 private:
  void Loop();
  void Try(std::unique_lock<std::mutex>& lock);
  // Of those that are not under way; false: there is none.
  bool GiveUpOldest(std::string_view why);

  const Clock& clock_;
  access::AuditLog& log_;
  DeliveryDatabase& database_;
  const LaneOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Webhook webhook_;
  std::deque<Delivery> deliveries_;
  // Of the first one, by the clock that never jumps.
  absl::Duration due_;
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::coordinator::notify
