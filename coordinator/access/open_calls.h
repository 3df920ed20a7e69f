// Every call that is open: how many one client may have, how much may lie unread for it, how long it may keep one
// waiting.
//
// Law: a client that does not read, or does not send, holds nothing but its own share, and that for a bounded time. A
// call waits for its client whenever bytes are on their way to it or expected from it; one that waits too long is
// cancelled.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/access/access.h"

namespace loupe::coordinator::access {

// What a call costs while it is open.
enum class CallKind {
  kUnary,   // a request, a body, an answer
  kStream,  // a file or a report on its way, either way
  kHeld,    // waits for news: a Synchronize, a watch
};

// Of one client, or of all together.
struct OpenLimits {
  int unary = 0;
  int streams = 0;
  int held = 0;
  // Answers that were sent and have not left this machine.
  int64_t unread_bytes = 0;
};

// How long a client may keep a call waiting: 60 s is more than any network that still works.
inline constexpr absl::Duration kClientPatience = absl::Seconds(60);

class OpenCalls;

// One of them; closed with the object. Thread-safe.
class OpenCall {
 public:
  ~OpenCall();
  OpenCall(const OpenCall&) = delete;
  OpenCall& operator=(const OpenCall&) = delete;

  const Caller& caller() const { return caller_; }
  // "'anna' from ipv4:127.0.0.1": whose shares it counts against.
  const std::string& client() const { return client_; }

  // The client's turn: it is to read or to send. Until ClientMoved, time counts against it.
  void AwaitClient();
  void ClientMoved();

  // Takes room for bytes that are on their way to the client, until the call is closed. RESOURCE_EXHAUSTED (reason
  // RATE_LIMITED) when too much lies there already.
  absl::Status Reserve(int64_t bytes);

  // The client has gone, its time was up, or somebody ended the call.
  bool cancelled() const { return cancelled_; }
  void MarkCancelled() { cancelled_ = true; }

 private:
  friend class OpenCalls;
  OpenCall(OpenCalls& calls, Caller caller, std::string client, CallKind kind, std::function<void()> cancel);

  OpenCalls& calls_;
  const Caller caller_;
  const std::string client_;
  const CallKind kind_;
  // Ends the call at gRPC; called at most once, with the registry's lock held.
  std::function<void()> cancel_;
  std::atomic<bool> cancelled_{false};
  // Under the registry's lock.
  int64_t reserved_ = 0;
  absl::Duration waiting_since_ = absl::InfiniteDuration();
  std::list<OpenCall*>::iterator at_;
};

// Thread-safe. Outlives its calls.
class OpenCalls {
 public:
  struct Options {
    OpenLimits people;   // each viewer or submitter token, from one machine
    OpenLimits workers;  // each worker or administrator token, from one machine
    OpenLimits all;
    absl::Duration patience = kClientPatience;
  };
  OpenCalls(const Options& options, const Clock& clock);
  ~OpenCalls();

  // RESOURCE_EXHAUSTED, reason RATE_LIMITED, when the client or all clients have too many open. `cancel` ends the call
  // at gRPC.
  absl::StatusOr<std::unique_ptr<OpenCall>> Open(Caller caller, std::string client, CallKind kind,
                                                 std::function<void()> cancel);

  // Cancels every call whose caller `ended` names: a token that was revoked or has expired.
  void CancelIf(const std::function<bool(const Caller&)>& ended);
  // Cancels what has kept waiting for too long. Runs by itself every second; for tests with a clock of their own.
  void CancelOverdue();

  size_t size() const;

 private:
  friend class OpenCall;
  struct Use {
    int unary = 0;
    int streams = 0;
    int held = 0;
    int64_t unread_bytes = 0;
    int calls() const { return unary + streams + held; }
    int& of(CallKind kind) { return kind == CallKind::kUnary ? unary : kind == CallKind::kStream ? streams : held; }
  };
  const OpenLimits& LimitsOf(const Caller& caller) const;
  void Close(OpenCall& call);
  void Loop();

  const Options options_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  std::list<OpenCall*> calls_;
  std::map<std::string, Use> clients_;
  Use all_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::coordinator::access
