#include "coordinator/service/watch_reactor.h"

#include <utility>

#include "coordinator/service/convert.h"
#include "coordinator/service/grpc_status.h"
#include "coordinator/service/guarded.h"

namespace loupe::coordinator {
namespace {

// What runs in a message of at most 4 MiB: some thousands of attempts.
constexpr size_t kMaxRunningBytes = 1 << 20;

}  // namespace

std::shared_ptr<WatchReactor> WatchReactor::Start(PlanCache& plans) {
  std::shared_ptr<WatchReactor> reactor(new WatchReactor(plans));
  reactor->self_ = reactor;
  return reactor;
}

bool WatchReactor::Update(absl::StatusOr<WatchUpdate> update) {
  v1::WatchSweepResponse response;
  absl::Status status = update.status();
  if (status.ok()) status = Guarded([&] { Fill(*update, response); });
  if (!status.ok()) {
    End(status);
    return false;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finished_ || end_) return false;
  next_ = std::move(response);
  if (IsTerminal(update->sweep.shown_state())) end_ = absl::OkStatus();
  Advance();
  return !end_;
}

void WatchReactor::Fill(const WatchUpdate& update, v1::WatchSweepResponse& response) const {
  *response.mutable_sweep() =
      ToProto(update.sweep, update.counts, update.estimated_time_left, update.waiting, /*with_spec=*/false);
  // On the engine's thread, which makes no plans: what runs is shown again when somebody has made it.
  if (const auto plan = plans_.Find(update.sweep.uid); plan != nullptr) {
    size_t bytes = 0;
    for (const RunningAttempt& attempt : update.running) {
      if (bytes > kMaxRunningBytes) {
        response.set_running_left_out(static_cast<int64_t>(update.running.size()) - response.running_size());
        break;
      }
      v1::RunningAttempt* added = response.add_running();
      *added = ToProto(update.sweep, attempt, *plan);
      bytes += added->ByteSizeLong();
    }
  }
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
    if (open_ != nullptr) open_->AwaitClient();
    StartWrite(&sending_);
  } else if (end_) {
    finished_ = true;
    if (open_ != nullptr) open_->AwaitClient();
    Finish(ToGrpcStatus(*end_));
  }
}

void WatchReactor::OnWriteDone(bool ok) {
  const std::lock_guard<std::mutex> lock(mutex_);
  writing_ = false;
  if (open_ != nullptr) open_->ClientMoved();
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
  // The engine may hold this object for longer than the call lasts.
  std::unique_ptr<OpenCall> closed;
  const std::lock_guard<std::mutex> lock(mutex_);
  last.swap(self_);
  closed.swap(open_);
}

}  // namespace loupe::coordinator
