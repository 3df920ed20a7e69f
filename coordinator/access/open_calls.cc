#include "coordinator/access/open_calls.h"

#include <chrono>
#include <utility>

#include "common/error_details.h"
#include "common/guarded.h"
#include "fmt/format.h"

namespace loupe::coordinator::access {
namespace {

constexpr std::chrono::seconds kLookInterval{1};
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

int LimitOf(const OpenLimits& limits, CallKind kind) {
  switch (kind) {
    case CallKind::kUnary:
      return limits.unary;
    case CallKind::kStream:
      return limits.streams;
    case CallKind::kHeld:
      return limits.held;
  }
  return 0;
}

const char* WhatAre(CallKind kind) {
  switch (kind) {
    case CallKind::kUnary:
      return "calls";
    case CallKind::kStream:
      return "transfers";
    case CallKind::kHeld:
      return "held calls";
  }
  return "";
}

absl::Status TooMuch(const std::string& sentence) {
  return WithRetryAfter(WithReason(absl::ResourceExhaustedError(sentence), kReasonRateLimited), kRetryAfter);
}

}  // namespace

OpenCall::OpenCall(OpenCalls& calls, Caller caller, std::string client, CallKind kind, std::function<void()> cancel)
    : calls_(calls), caller_(std::move(caller)), client_(std::move(client)), kind_(kind), cancel_(std::move(cancel)) {}

OpenCall::~OpenCall() { calls_.Close(*this); }

void OpenCall::AwaitClient() {
  const std::lock_guard<std::mutex> lock(calls_.mutex_);
  waiting_since_ = calls_.clock_.MonotonicNow();
}

void OpenCall::ClientMoved() {
  const std::lock_guard<std::mutex> lock(calls_.mutex_);
  waiting_since_ = absl::InfiniteDuration();
}

absl::Status OpenCall::Reserve(int64_t bytes) {
  const std::lock_guard<std::mutex> lock(calls_.mutex_);
  OpenCalls::Use& use = calls_.clients_[client_];
  const OpenLimits& limits = calls_.LimitsOf(caller_);
  // One answer alone is never too much: it is bounded where it is made.
  const auto full = [bytes](const OpenCalls::Use& used, int64_t most) {
    return used.unread_bytes > 0 && used.unread_bytes + bytes > most;
  };
  if (full(use, limits.unread_bytes)) {
    return TooMuch(fmt::format("{} has {} MiB of answers that it has not read: read them, then try again", client_,
                               use.unread_bytes >> 20));
  }
  if (full(calls_.all_, calls_.options_.all.unread_bytes)) {
    return TooMuch("all clients together have too many answers that they have not read: try again");
  }
  reserved_ += bytes;
  use.unread_bytes += bytes;
  calls_.all_.unread_bytes += bytes;
  return absl::OkStatus();
}

OpenCalls::OpenCalls(const Options& options, const Clock& clock) : options_(options), clock_(clock) {
  thread_ = std::thread([this] { Loop(); });
}

OpenCalls::~OpenCalls() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

const OpenLimits& OpenCalls::LimitsOf(const Caller& caller) const {
  return caller.role == Role::kWorker || caller.role == Role::kAdmin ? options_.workers : options_.people;
}

absl::StatusOr<std::unique_ptr<OpenCall>> OpenCalls::Open(Caller caller, std::string client, CallKind kind,
                                                          std::function<void()> cancel) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int most = LimitOf(LimitsOf(caller), kind);
  const auto found = clients_.find(client);
  if (found != clients_.end() && found->second.of(kind) >= most) {
    return TooMuch(
        fmt::format("{} has {} {} open, which is the most: end some, or try again", client, most, WhatAre(kind)));
  }
  if (all_.of(kind) >= LimitOf(options_.all, kind)) {
    return TooMuch(fmt::format("{} {} are open, which is the most for all clients together: try again", all_.of(kind),
                               WhatAre(kind)));
  }
  ++clients_[client].of(kind);
  ++all_.of(kind);
  std::unique_ptr<OpenCall> call(new OpenCall(*this, std::move(caller), std::move(client), kind, std::move(cancel)));
  call->at_ = calls_.insert(calls_.end(), call.get());
  return call;
}

void OpenCalls::Close(OpenCall& call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  calls_.erase(call.at_);
  const auto use = clients_.find(call.client_);
  --use->second.of(call.kind_);
  use->second.unread_bytes -= call.reserved_;
  --all_.of(call.kind_);
  all_.unread_bytes -= call.reserved_;
  if (use->second.calls() == 0) clients_.erase(use);
}

void OpenCalls::CancelIf(const std::function<bool(const Caller&)>& ended) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (OpenCall* call : calls_) {
    if (!ended(call->caller_)) continue;
    call->MarkCancelled();
    if (auto cancel = std::exchange(call->cancel_, nullptr)) cancel();
  }
}

void OpenCalls::CancelOverdue() {
  const absl::Duration now = clock_.MonotonicNow();
  const std::lock_guard<std::mutex> lock(mutex_);
  for (OpenCall* call : calls_) {
    if (call->waiting_since_ == absl::InfiniteDuration() || now - call->waiting_since_ < options_.patience) continue;
    call->MarkCancelled();
    if (auto cancel = std::exchange(call->cancel_, nullptr)) cancel();
  }
}

size_t OpenCalls::size() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return calls_.size();
}

void OpenCalls::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_.wait_for(lock, kLookInterval, [this] { return stopping_; })) {
    lock.unlock();
    GuardedTurn("watching open calls", [this] { CancelOverdue(); });
    lock.lock();
  }
}

}  // namespace loupe::coordinator::access
