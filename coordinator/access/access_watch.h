// Looks again and again whether who is in may stay: ends open calls whose tokens were revoked or have expired, and has
// TLS take over new certificates.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "coordinator/access/access.h"
#include "coordinator/access/open_calls.h"

namespace loupe::coordinator::access {

// Runs from construction to destruction; the rest outlives it.
class AccessWatch {
 public:
  // `refresh_tls` has listeners take over new certificates (ServerTls::Refresh).
  AccessWatch(AccessControl& access, OpenCalls& calls, std::function<void()> refresh_tls);
  ~AccessWatch();

 private:
  void Loop();
  void EndCallsOfEndedTokens();

  AccessControl& access_;
  OpenCalls& calls_;
  const std::function<void()> refresh_tls_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::coordinator::access
