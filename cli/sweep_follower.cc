#include "cli/sweep_follower.h"

#include <optional>
#include <utility>

#include "cli/views.h"
#include "common/clock.h"
#include "loupe/v1/sweep.grpc.pb.h"

namespace loupe::cli {

grpc::ClientContext& CancelableContext::Renew() {
  const std::lock_guard lock(mutex_);
  context_ = std::make_unique<grpc::ClientContext>();
  if (cancelled_) context_->TryCancel();
  return *context_;
}

void CancelableContext::Cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (context_ != nullptr) context_->TryCancel();
}

void SweepFollower::Cancel() {
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  call_.Cancel();
}

bool SweepFollower::cancelled() {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

// One stream until it ends. The last state seen, if any, in `last`.
absl::Status SweepFollower::FollowStream(std::optional<v1::Sweep>& last) {
  const auto stub = v1::SweepService::NewStub(connection_.channel());
  grpc::ClientContext& context = call_.Renew();
  connection_.Prepare(context, absl::InfiniteDuration());
  v1::WatchSweepRequest request;
  request.set_name(name_);
  const auto reader = stub->WatchSweep(&context, request);
  v1::WatchSweepResponse state;
  while (reader->Read(&state)) {
    events_.on_state(state);
    last = state.sweep();
  }
  return connection_.Check(reader->Finish());
}

absl::StatusOr<v1::Sweep> SweepFollower::Run() {
  std::optional<v1::Sweep> last;
  absl::Duration away_since = absl::InfiniteDuration();
  while (true) {
    std::optional<v1::Sweep> seen;
    const absl::Status status = FollowStream(seen);
    if (seen.has_value()) {
      away_since = absl::InfiniteDuration();
      last = std::move(seen);
    }
    if (cancelled()) return absl::CancelledError("stopped watching");
    if (last.has_value() && IsTerminal(last->state())) return *std::move(last);
    // A coordinator that was there and went away is probably being restarted.
    const bool transient = status.ok() || status.code() == absl::StatusCode::kUnavailable;
    const absl::Duration now = SystemClock().MonotonicNow();
    if (away_since == absl::InfiniteDuration()) {
      if (!transient || !last.has_value()) return status.ok() ? absl::UnavailableError("the stream has ended") : status;
      events_.on_lost();
      away_since = now;
    }
    if (!transient || now - away_since > patience_)
      return status.ok() ? absl::UnavailableError("the stream has ended") : status;
    // WaitUntilConnected cannot be interrupted, so in short pieces.
    (void)connection_.WaitUntilConnected(absl::Seconds(1));
  }
}

}  // namespace loupe::cli
