#include "coordinator/access/access_watch.h"

#include <chrono>
#include <map>
#include <string>
#include <utility>

#include "common/guarded.h"

namespace loupe::coordinator::access {
namespace {

// A revoked token's calls end within a second, machine's load included.
constexpr std::chrono::milliseconds kTokenInterval{250};

}  // namespace

AccessWatch::AccessWatch(AccessControl& access, OpenCalls& calls, std::function<void()> refresh_tls)
    : access_(access), calls_(calls), refresh_tls_(std::move(refresh_tls)) {
  thread_ = std::thread([this] { Loop(); });
}

AccessWatch::~AccessWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void AccessWatch::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_.wait_for(lock, kTokenInterval, [this] { return stopping_; })) {
    lock.unlock();
    GuardedTurn("watching tokens", [this] { EndCallsOfEndedTokens(); });
    GuardedTurn("watching certificates", refresh_tls_);
    lock.lock();
  }
}

void AccessWatch::EndCallsOfEndedTokens() {
  // Thousands of calls may have come in by one token.
  std::map<std::string, bool> ended;
  calls_.CancelIf([&](const Caller& caller) {
    const auto [found, is_new] = ended.try_emplace(caller.sha256, false);
    if (is_new) found->second = !access_.CheckStill(caller).ok();
    return found->second;
  });
}

}  // namespace loupe::coordinator::access
