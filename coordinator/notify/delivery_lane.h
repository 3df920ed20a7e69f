// What waits for one receiver, on a thread of its own: a receiver that does not answer holds up nobody else.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/access/audit_log.h"
#include "coordinator/notify/webhook.h"

namespace loupe::coordinator {

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
  std::function<TryResult(const Webhook&, const Notification&)> deliver;
};

// Thread-safe. What it is made of outlives it.
class DeliveryLane {
 public:
  DeliveryLane(const Clock& clock, AuditLog& log, LaneOptions options);
  // Stop, and the end of the try that is under way.
  ~DeliveryLane();

  void Add(const Webhook& webhook, const Notification& notification);
  // Nothing waits, and nothing is under way.
  bool IsIdle() const;
  // Begins no further try; what waits is given up, and the log says so.
  void Stop();

 private:
  struct Delivery {
    Webhook webhook;
    Notification notification;
    size_t tries = 0;
    absl::Duration due;
  };
  void Loop();
  void Try(Delivery delivery, std::unique_lock<std::mutex>& lock);
  void Log(const Delivery& delivery, const std::string& outcome);

  const Clock& clock_;
  AuditLog& log_;
  const LaneOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Delivery> deliveries_;
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::coordinator
