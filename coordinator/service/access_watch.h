// Looks again and again whether who is in may stay: ends open calls whose tokens were revoked or have expired, and has
// TLS take over new certificates.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "coordinator/service/access.h"
#include "coordinator/service/open_calls.h"
#include "coordinator/service/server_tls.h"

namespace loupe::coordinator {

// Runs from construction to destruction; the rest outlives it.
class AccessWatch {
 public:
  AccessWatch(AccessControl& access, OpenCalls& calls, ServerTls& tls);
  ~AccessWatch();

 private:
  void Loop();

  AccessControl& access_;
  OpenCalls& calls_;
  ServerTls& tls_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::coordinator
