#include "coordinator/service/watch_reactor.h"

#include <utility>

#include "coordinator/service/convert.h"
#include "coordinator/service/grpc_status.h"

namespace loupe::coordinator {

std::shared_ptr<WatchReactor> WatchReactor::Start(PlanCache& plans) {
  std::shared_ptr<WatchReactor> reactor(new WatchReactor(plans));
  reactor->self_ = reactor;
  return reactor;
}

bool WatchReactor::Update(absl::StatusOr<WatchUpdate> update) {
  if (!update.ok()) {
    End(update.status());
    return false;
  }
  v1::WatchSweepResponse response;
  *response.mutable_sweep() = ToProto(update->sweep, update->counts, update->estimated_time_left, /*with_spec=*/false);
  if (const auto plan = plans_.Get(update->sweep); plan.ok()) {
    for (const RunningAttempt& attempt : update->running) *response.add_running() = ToProto(update->sweep, attempt, **plan);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finished_ || end_) return false;
  next_ = std::move(response);
  if (IsTerminal(update->sweep.state)) end_ = absl::OkStatus();
  Advance();
  return !end_;
}

void WatchReactor::End(const absl::Status& status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!end_) end_ = status;
  Advance();
}

void WatchReactor::Advance() {
  if (writing_ || finished_) return;
  if (next_) {
    sending_ = *std::exchange(next_, std::nullopt);
    writing_ = true;
    StartWrite(&sending_);
  } else if (end_) {
    finished_ = true;
    Finish(ToGrpcStatus(*end_));
  }
}

void WatchReactor::OnWriteDone(bool ok) {
  const std::lock_guard<std::mutex> lock(mutex_);
  writing_ = false;
  if (!ok) {
    next_.reset();
    end_ = absl::CancelledError("the watcher has hung up");
  }
  Advance();
}

void WatchReactor::OnCancel() {
  const std::lock_guard<std::mutex> lock(mutex_);
  next_.reset();
  end_ = absl::CancelledError("the watcher has hung up");
  Advance();
}

void WatchReactor::OnDone() {
  std::shared_ptr<WatchReactor> last;
  const std::lock_guard<std::mutex> lock(mutex_);
  last.swap(self_);
}

}  // namespace loupe::coordinator
